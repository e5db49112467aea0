//! How a command fails: what happened, why, what to do next, and the exit code. The only place where domain errors are
//! mapped to exit codes.

use std::borrow::Cow;
use std::fmt;
use std::process::ExitCode;

use nightferry_core::config::{ConfigErrors, Problem};
use nightferry_core::error::{Error, ErrorCode, Noun};
use nightferry_core::telemetry::TelemetryError;

use nightferry_devservers::UpError;

/// The result of a command. The numbers are part of the contract; docs/cli.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    Failed,
    /// Invalid command line or configuration; nothing was attempted.
    Usage,
    NotFound,
    /// Conflict with the current state: a sync is already running, the account already exists.
    Conflict,
    /// The run that was waited for did not copy everything.
    Partial,
    Unreachable,
    /// Stored data is damaged or inconsistent, whether or not it was fixed.
    Findings,
    /// Ctrl-C: stopped waiting, or stopped without a graceful end.
    Interrupted,
}

impl Exit {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::Partial,
        Self::Unreachable,
        Self::Findings,
        Self::Interrupted,
    ];

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Partial => 5,
            Self::Unreachable => 6,
            Self::Findings => 7,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// A suggestion for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Next {
    /// The purpose of the command, or the whole suggestion if there is no command.
    pub(crate) text: String,
    /// The words of the command after `nightferry`.
    pub(crate) command: Option<String>,
}

/// A command that failed.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Stable name of the kind of failure, for programs.
    pub(crate) kind: Cow<'static, str>,
    /// What happened, as a sentence without its full stop.
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    pub(crate) next: Vec<Next>,
    pub(crate) problems: Vec<Problem>,
    /// Whether the database failed, in which case a diagnosis may reveal the cause.
    pub(crate) is_of_database: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, kind: impl Into<Cow<'static, str>>, what: impl Into<String>) -> Self {
        let (kind, what) = (kind.into(), what.into());
        Self { exit, kind, what, why: None, next: Vec::new(), problems: Vec::new(), is_of_database: false }
    }

    /// A command line with an invalid combination of options.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", what)
    }

    pub(crate) fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    pub(crate) fn advise(mut self, text: impl Into<String>) -> Self {
        self.next.push(Next { text: text.into(), command: None });
        self
    }

    /// Adds a command of this program as a suggestion; `command` without the leading `nightferry`.
    pub(crate) fn advise_command(mut self, text: impl Into<String>, command: impl Into<String>) -> Self {
        self.next.push(Next { text: text.into(), command: Some(command.into()) });
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{}: {why}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for Failure {}

/// For `map_err`: the domain error as the reason why `act` (such as "list the accounts") failed.
pub(crate) fn cannot(act: impl fmt::Display) -> impl FnOnce(Error) -> Failure {
    move |error| of_domain(&act, &error)
}

fn of_domain(act: &dyn fmt::Display, error: &Error) -> Failure {
    let code = error.code();
    let kind = code.as_str().to_ascii_lowercase();
    let mut failure = Failure::new(exit_of(code), kind, format!("Cannot {act}")).because(error);
    failure.is_of_database = matches!(error, Error::Database(_) | Error::DatabaseUnavailable(_));
    match error {
        Error::SyncAlreadyRunning(run) => failure
            .because(format!("A run is already active: {run}"))
            .advise_command("follow it until it ends", format!("sync show {run} --wait"))
            .advise_command("or cancel it", format!("sync cancel {run}")),
        Error::NotFound(Noun::User) => failure.advise_command("list the accounts", "user list"),
        Error::NotFound(Noun::Run) => failure.advise_command("list the runs", "sync history"),
        Error::NotFound(Noun::Plan) | Error::PlanChanged { .. } => {
            failure.advise_command("see what a run would do now", "sync plan")
        }
        Error::EmailTaken => failure
            .advise_command("list the accounts", "user list")
            .advise("to make an existing account an administrator, use `user promote`"),
        Error::Store(error) => {
            failure.advise_command("see what is wrong with it", format!("store check {}", error.store()))
        }
        Error::NotFound(Noun::Store) | Error::NoLocalStore => {
            failure.advise_command("list the stores", "store list")
        }
        Error::StoreUnavailable { .. } => failure.advise_command("see which stores are down", "store check"),
        Error::DatabaseUnavailable(_) => failure
            .advise("check that Postgres is running and that database.url is correct")
            .advise_command("see the configured address and its source", "config show database"),
        Error::Database(_) => {
            failure.advise_command("see whether migrations are missing", "migrate --status")
        }
        Error::Internal(_) => {
            failure.advise("this is a bug: repeat the command with --verbose, and report the output")
        }
        _ => failure,
    }
}

pub(crate) const fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::ValidationFailed
        | ErrorCode::BadRequest
        | ErrorCode::MethodNotAllowed
        | ErrorCode::TypeNotAllowed
        | ErrorCode::RangeNotSatisfiable => Exit::Usage,
        ErrorCode::NotFound => Exit::NotFound,
        ErrorCode::EmailTaken
        | ErrorCode::NameTaken
        | ErrorCode::Conflict
        | ErrorCode::PreconditionFailed
        | ErrorCode::SyncAlreadyRunning => Exit::Conflict,
        ErrorCode::StoreUnavailable | ErrorCode::DatabaseUnavailable => Exit::Unreachable,
        ErrorCode::Unauthenticated
        | ErrorCode::InvalidCredentials
        | ErrorCode::TokenExpired
        | ErrorCode::TokenRevoked
        | ErrorCode::RefreshReused
        | ErrorCode::Forbidden
        | ErrorCode::CsrfRejected
        | ErrorCode::RateLimited
        | ErrorCode::FileTooLarge
        | ErrorCode::QuotaExceeded
        | ErrorCode::ChecksumMismatch
        | ErrorCode::StoreError
        | ErrorCode::ProviderError
        | ErrorCode::Internal => Exit::Failed,
    }
}

/// An invalid command line, with the parser's message.
pub(crate) fn of_command_line(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or("The command is incomplete");
    Failure::usage(what.split_whitespace().collect::<Vec<_>>().join(" "))
        .advise_command("see its usage", "help")
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let count = errors.problems().len();
        let problems = if count == 1 { "a problem".to_owned() } else { format!("{count} problems") };
        let mut failure =
            Self::new(Exit::Usage, "configuration", format!("The configuration has {problems}"));
        failure.problems = errors.problems().to_vec();
        failure
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        Self::new(Exit::Usage, "configuration", "Cannot initialize logging").because(error)
    }
}

impl From<UpError> for Failure {
    fn from(error: UpError) -> Self {
        let exit = if matches!(error, UpError::Conflict(_)) { Exit::Conflict } else { Exit::Failed };
        Self::new(exit, "servers", "Cannot start the servers").because(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nightferry_core::error::FieldError;
    use nightferry_core::ids::RunId;

    use super::*;

    #[test]
    fn exit_codes_distinguish_kinds_of_errors() {
        let exit = |error: &Error| exit_of(error.code()).number();
        assert_eq!(exit(&Error::Validation(vec![FieldError::new("email", "is empty")])), 2);
        assert_eq!(exit(&Error::BadRequest(String::new())), 2);
        assert_eq!(exit(&Error::NotFound(Noun::Run)), 3);
        assert_eq!(exit(&Error::EmailTaken), 4);
        assert_eq!(exit(&Error::Conflict(String::new())), 4);
        assert_eq!(exit(&Error::SyncAlreadyRunning(RunId::new())), 4);
        assert_eq!(exit(&Error::DatabaseUnavailable(String::new())), 6);
        assert_eq!(exit(&Error::StoreUnavailable { retry_after: Duration::ZERO }), 6);
        assert_eq!(exit(&Error::Internal(String::new())), 1);
    }

    #[test]
    fn command_line_errors_are_one_sentence() {
        let what = |words: &[&str]| {
            of_command_line(&crate::args::command().try_get_matches_from(words).unwrap_err()).what
        };
        assert_eq!(what(&["nightferry", "sync", "--frobnicate"]), "unexpected argument '--frobnicate' found");
        assert!(
            what(&["nightferry", "sync", "show"]).ends_with("<RUN>"),
            "{}",
            what(&["nightferry", "sync", "show"])
        );
        assert_eq!(what(&["nightferry"]), "The command is incomplete");
    }

    #[test]
    fn an_active_run_is_reported_with_suggestions() {
        let run = RunId::new();
        let failure = cannot("start a sync")(Error::SyncAlreadyRunning(run));
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(failure.why.unwrap().contains(&run.to_string()));
        let commands: Vec<_> = failure.next.into_iter().filter_map(|next| next.command).collect();
        assert_eq!(commands, [format!("sync show {run} --wait"), format!("sync cancel {run}")]);
    }

    #[test]
    fn configuration_errors_are_usage_errors_with_all_their_problems() {
        let errors = nightferry_core::config::Config::load(nightferry_core::config::LoadOptions::default());
        let errors = errors.unwrap_err();
        let count = errors.problems().len();
        let failure = Failure::from(errors);
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.problems.len(), count);
        assert!(count > 1);
    }
}
