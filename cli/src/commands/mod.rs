//! One folder per noun, one file per verb. This module contains what all commands share, and the dispatch.

pub(crate) mod audit;
pub(crate) mod catalog;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod encryption_key;
pub(crate) mod file;
pub(crate) mod migrate;
pub(crate) mod reconcile;
pub(crate) mod scrub;
pub(crate) mod serve;
mod service;
pub(crate) mod signing_key;
pub(crate) mod store;
pub(crate) mod sync;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod user;
mod watch;
pub(crate) mod worker;

use std::time::Duration;

use nightferry_core::clock::Clock;
use nightferry_core::config::Config;
use nightferry_core::context::Context;
use nightferry_core::db::audit::{Channel, Origin};
use nightferry_core::db::migrate as migrations;
use nightferry_core::error::Error;
use nightferry_core::services::Services;
use nightferry_core::telemetry::{self, Role, TelemetryGuard};

use crate::args::{Command, GlobalArgs, OperatorCommand};
use crate::errors::{Exit, Failure, cannot};
use crate::output::Output;
use crate::settings::Sources;

const DIAGNOSIS_DEADLINE: Duration = Duration::from_secs(5);

/// Shared by all commands.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) output: Output,
    pub(crate) global: GlobalArgs,
}

/// A context, and the guard of its log.
pub(crate) struct Session {
    pub(crate) services: Services,
    _telemetry: TelemetryGuard,
}

/// Runs a command and prints the error if it fails.
pub(crate) async fn run(app: App, command: Command) -> Exit {
    match Box::pin(dispatch(&app, command)).await {
        Ok(exit) => exit,
        Err(failure) => {
            app.output.error(&failure);
            failure.exit
        }
    }
}

async fn dispatch(app: &App, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => up::run(app, args).await,
        Command::Serve(args) => serve::run(app, args).await,
        Command::Worker(args) => worker::run(app, args).await,
        Command::Migrate(args) => migrate::run(app, &args).await,
        Command::Operate(command) => {
            app.in_session(async |services: &Services| operate(app, services, command).await).await
        }
        Command::Config(command) => config::run(app, &command),
        Command::EncryptionKey(command) => encryption_key::run(app, &command).await,
        Command::SigningKey(command) => {
            app.in_session(async |it: &Services| signing_key::run(app, it, command).await).await
        }
        Command::Completions(args) => completions::run(app, &args),
    }
}

async fn operate(app: &App, services: &Services, command: OperatorCommand) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Sync(command) => sync::run(app, services, command).await,
        OperatorCommand::File(command) => file::run(app, services, command).await,
        OperatorCommand::User(command) => user::run(app, services, command).await,
        OperatorCommand::Token(command) => token::run(app, services, command).await,
        OperatorCommand::Store(command) => store::run(app, services, command).await,
        OperatorCommand::Reconcile(args) => Box::pin(reconcile::run(app, &services.context, &args)).await,
        OperatorCommand::Scrub(args) => Box::pin(scrub::run(app, &services.context, &args)).await,
        OperatorCommand::Catalog(command) => Box::pin(catalog::run(app, services, command)).await,
        OperatorCommand::Audit(command) => audit::run(app, services, command).await,
    }
}

impl App {
    /// Loads the configuration. `more` are overrides from the options of the command.
    pub(crate) fn config(&self, more: Vec<(String, String)>) -> Result<Config, Failure> {
        let sources = Sources::of(&self.global, more);
        if let Some(file) = &sources.found {
            let file = file.display();
            self.output.detail(&format!("using the `nightferry up` that is running here ({file})"));
        }
        sources.load()
    }

    /// Runs an operator command with an open session. If the database fails, determines the reason.
    pub(crate) async fn in_session(
        &self,
        command: impl AsyncFnOnce(&Services) -> Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        let session = self.session()?;
        diagnosed(&session.services.context, command(&session.services).await).await
    }

    fn session(&self) -> Result<Session, Failure> {
        let role = if self.output.is_verbose() { Role::CliVerbose } else { Role::Cli };
        Session::new(self.config(Vec::new())?, role)
    }
}

impl Session {
    /// Builds the context for a process with this `role`.
    pub(crate) fn new(config: Config, role: Role) -> Result<Self, Failure> {
        let guard = telemetry::init(&config.logging, role)?;
        let services = Services::new(config, Clock::system()).map_err(cannot("prepare the stores"))?;
        Ok(Self { services, _telemetry: guard })
    }
}

/// The name of this program in the audit log.
pub(crate) fn origin() -> Origin {
    Origin {
        ip: String::new(),
        user_agent: concat!("nightferry-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
        channel: Channel::Cli,
    }
}

/// Diagnoses a database failure. If no cause is found, the failure is returned unchanged.
async fn diagnosed(context: &Context, result: Result<Exit, Failure>) -> Result<Exit, Failure> {
    let failure = match result {
        Err(failure) if failure.is_of_database => failure,
        other => return other,
    };
    Err(match tokio::time::timeout(DIAGNOSIS_DEADLINE, migrations::pending(&context.db)).await {
        Ok(Ok(pending)) if !pending.is_empty() => migrate::missing(&failure.what, &pending),
        // The pool only reports that it got no connection; a direct connection attempt reveals the cause.
        Ok(Err(error @ Error::DatabaseUnavailable(_))) => failure.because(error),
        _ => failure,
    })
}
