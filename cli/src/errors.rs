//! How a command fails: what happened, why, what to do next, and the exit code that tells scripts which kind it was.
//! The only place where errors of the domain meet exit codes.

use std::fmt;
use std::process::ExitCode;

use nightferry_core::config::{ConfigErrors, Problem};
use nightferry_core::error::Error;
use nightferry_core::store::StoreError;
use nightferry_core::telemetry::TelemetryError;

use nightferry_devservers::UpError;

const DATABASE_UNAVAILABLE: &str = "database_unavailable";
const DATABASE_ERROR: &str = "database_error";

/// How a command ended. The numbers are part of the contract; docs/cli.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Not done, for a reason that is none of the others.
    Failed,
    /// Wrong command line or configuration; nothing was tried.
    Usage,
    /// The thing named does not exist.
    NotFound,
    /// The state of things forbids it: a sync is running already, the account exists already.
    Conflict,
    /// The run that was waited for did not end with everything crossed.
    Partial,
    /// The database or a store cannot be reached.
    Unreachable,
    /// What is stored is not as it should be, whether or not it was mended.
    Findings,
    /// Ctrl-C: no longer waiting, or not waiting for an orderly end.
    Interrupted,
}

impl Exit {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 9] = [
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

    /// The number that the shell sees.
    pub const fn number(self) -> u8 {
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

/// One thing that the operator can do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// What it is good for, or all of it when no command does it.
    pub text: String,
    /// The command's words after `nightferry`.
    pub command: Option<String>,
}

/// A command that was not done.
#[derive(Debug, Clone)]
#[must_use]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// Stable name of the kind of failure, for programs.
    pub kind: &'static str,
    /// What happened, as a sentence without its full stop.
    pub what: String,
    /// Why.
    pub why: Option<String>,
    /// What to do.
    pub next: Vec<Next>,
    /// Each thing that is wrong with the configuration.
    pub problems: Vec<Problem>,
}

impl Failure {
    /// A failure without a reason yet.
    pub fn new(exit: Exit, kind: &'static str, what: impl Into<String>) -> Self {
        Self { exit, kind, what: what.into(), why: None, next: Vec::new(), problems: Vec::new() }
    }

    /// A command line that asks for something that cannot be.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", what)
    }

    /// Whether the database failed, so that a look at it may tell why.
    pub fn is_of_database(&self) -> bool {
        matches!(self.kind, DATABASE_UNAVAILABLE | DATABASE_ERROR)
    }

    /// Adds the reason.
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Adds advice.
    pub fn advise(mut self, text: impl Into<String>) -> Self {
        self.next.push(Next { text: text.into(), command: None });
        self
    }

    /// Adds a command of this program as advice; `command` without the leading `nightferry`.
    pub fn advise_command(mut self, text: impl Into<String>, command: impl Into<String>) -> Self {
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

/// For `map_err`: the domain's error as the reason why `act` (as in "list the accounts") could not be done.
pub fn cannot(act: impl fmt::Display) -> impl FnOnce(Error) -> Failure {
    move |error| of_domain(&act, &error)
}

fn of_domain(act: &dyn fmt::Display, error: &Error) -> Failure {
    let (exit, kind) = classify(error);
    let failure = Failure::new(exit, kind, format!("Cannot {act}")).because(error);
    match error {
        Error::SyncAlreadyRunning(run) => Failure::new(exit, kind, format!("Cannot {act}"))
            .because(format!("A sync is running already: run {run}"))
            .advise_command("follow it to its end", format!("sync show {run} --wait"))
            .advise_command("or stop it", format!("sync cancel {run}")),
        Error::NotFound("user") => failure.advise_command("list the accounts", "user list"),
        Error::NotFound("run") => failure.advise_command("list the runs", "sync history"),
        Error::NotFound("plan") | Error::PlanChanged { .. } => {
            failure.advise_command("see what a run would do now", "sync plan")
        }
        Error::EmailTaken => failure
            .advise_command("list the accounts", "user list")
            .advise("to make an existing account an administrator, use `user promote`"),
        Error::Store(error) => {
            failure.advise_command("see what is wrong with it", format!("store check {}", error.store()))
        }
        Error::NotFound("store") | Error::NoLocalStore => {
            failure.advise_command("list the stores", "store list")
        }
        Error::StoreUnavailable { .. } => failure.advise_command("see which stores are down", "store check"),
        Error::DatabaseUnavailable(_) => failure
            .advise("check that Postgres is running and that database.url is right")
            .advise_command("see the address in use and where it was set", "config show database"),
        Error::Database(_) => {
            failure.advise_command("see whether migrations are missing", "migrate --status")
        }
        Error::Internal(_) => failure
            .advise("this should not happen: repeat the command with --verbose, and report what it says"),
        Error::Validation(_)
        | Error::BadRequest(_)
        | Error::Unauthenticated
        | Error::InvalidCredentials
        | Error::TokenExpired
        | Error::TokenRevoked
        | Error::RefreshReused
        | Error::SignInRefused(_)
        | Error::Provider(_)
        | Error::RateLimited { .. }
        | Error::Forbidden(_)
        | Error::NotFound(_)
        | Error::NoSuch { .. }
        | Error::NameTaken(_)
        | Error::Conflict(_)
        | Error::Archived(_)
        | Error::PreconditionFailed
        | Error::FileTooLarge { .. }
        | Error::UploadsBusy { .. }
        | Error::QuotaExceeded { .. }
        | Error::RangeNotSatisfiable { .. }
        | Error::ChecksumMismatch { .. } => failure,
    }
}

const fn classify_store(outage: bool) -> (Exit, &'static str) {
    if outage { (Exit::Unreachable, "store_unavailable") } else { (Exit::Failed, "store_error") }
}

/// Exit code and kind of each error of the domain.
fn classify(error: &Error) -> (Exit, &'static str) {
    match error {
        Error::Validation(_) => (Exit::Usage, "validation_failed"),
        Error::BadRequest(_) => (Exit::Usage, "bad_request"),
        Error::RateLimited { .. } => (Exit::Failed, "rate_limited"),
        Error::RangeNotSatisfiable { .. } => (Exit::Usage, "range_not_satisfiable"),
        Error::NotFound(_) | Error::NoSuch { .. } => (Exit::NotFound, "not_found"),
        Error::EmailTaken => (Exit::Conflict, "email_taken"),
        Error::NameTaken(_) => (Exit::Conflict, "name_taken"),
        Error::Conflict(_) => (Exit::Conflict, "conflict"),
        Error::Archived(_) => (Exit::Conflict, "archived"),
        Error::PreconditionFailed => (Exit::Conflict, "precondition_failed"),
        Error::SyncAlreadyRunning(_) => (Exit::Conflict, "sync_already_running"),
        Error::PlanChanged { .. } => (Exit::Conflict, "plan_changed"),
        Error::Store(error) => classify_store(error.is_outage()),
        Error::StoreUnavailable { .. } | Error::UploadsBusy { .. } | Error::NoLocalStore => {
            classify_store(true)
        }
        Error::DatabaseUnavailable(_) => (Exit::Unreachable, DATABASE_UNAVAILABLE),
        Error::Database(_) => (Exit::Failed, DATABASE_ERROR),
        Error::Unauthenticated
        | Error::InvalidCredentials
        | Error::TokenExpired
        | Error::TokenRevoked
        | Error::RefreshReused
        | Error::SignInRefused(_)
        | Error::Forbidden(_) => (Exit::Failed, "forbidden"),
        Error::FileTooLarge { .. } => (Exit::Failed, "file_too_large"),
        Error::QuotaExceeded { .. } => (Exit::Failed, "quota_exceeded"),
        Error::ChecksumMismatch { .. } => (Exit::Failed, "checksum_mismatch"),
        Error::Provider(_) => (Exit::Failed, "provider_error"),
        Error::Internal(_) => (Exit::Failed, "internal"),
    }
}

/// Exit code of a store that failed its check.
pub fn exit_of_store(error: &StoreError) -> Exit {
    classify_store(error.is_outage()).0
}

/// A command line that is none, as its parser says it.
pub fn of_command_line(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or("The command is not complete");
    Failure::usage(what.split_whitespace().collect::<Vec<_>>().join(" "))
        .advise_command("see how it is written", "help")
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
        Self::new(Exit::Usage, "configuration", "Cannot set up logging").because(error)
    }
}

impl From<UpError> for Failure {
    fn from(error: UpError) -> Self {
        let exit = match error {
            UpError::PortBusy { .. } | UpError::AlreadyRunning { .. } | UpError::OtherSoftware { .. } => {
                Exit::Conflict
            }
            _ => Exit::Failed,
        };
        Self::new(exit, "servers", "Cannot start the servers").because(error)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use nightferry_core::error::FieldError;
    use nightferry_core::ids::RunId;

    use super::*;

    #[test]
    fn exit_codes_tell_kinds_of_errors_apart() {
        let exit = |error: &Error| classify(error).0.number();
        assert_eq!(exit(&Error::Validation(vec![FieldError::new("email", "is empty")])), 2);
        assert_eq!(exit(&Error::BadRequest(String::new())), 2);
        assert_eq!(exit(&Error::NotFound("run")), 3);
        assert_eq!(exit(&Error::EmailTaken), 4);
        assert_eq!(exit(&Error::Conflict(String::new())), 4);
        assert_eq!(exit(&Error::SyncAlreadyRunning(RunId::new())), 4);
        assert_eq!(exit(&Error::DatabaseUnavailable(String::new())), 6);
        assert_eq!(exit(&Error::StoreUnavailable { retry_after: Duration::ZERO }), 6);
        assert_eq!(exit(&Error::Internal(String::new())), 1);
    }

    #[test]
    fn what_is_wrong_with_a_command_line_is_one_sentence() {
        let what = |words: &[&str]| {
            of_command_line(&crate::args::command().try_get_matches_from(words).unwrap_err()).what
        };
        assert_eq!(what(&["nightferry", "sync", "--frobnicate"]), "unexpected argument '--frobnicate' found");
        assert!(
            what(&["nightferry", "sync", "show"]).ends_with("<RUN>"),
            "{}",
            what(&["nightferry", "sync", "show"])
        );
        assert_eq!(what(&["nightferry"]), "The command is not complete");
    }

    #[test]
    fn a_run_that_is_active_is_named_with_the_ways_to_go_on() {
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
