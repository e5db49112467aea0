//! `nightferry config`: inspects the configuration without using it.

use clap::{Args, Subcommand};
use nightferry_core::config::Setting;
use nightferry_core::tiering::policy;

use super::App;
use crate::documents::problem_document;
use crate::errors::{Exit, Failure};
use crate::format::table::{plain, table};
use crate::output::document;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report all errors and their fixes
    #[command(after_help = CHECK_EXAMPLES)]
    Check,
    /// Print all effective settings and the source of each
    Show(ShowArgs),
}

pub(super) fn run(app: &App, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => check(app),
        ConfigCommand::Show(args) => show(app, args),
    }
}

const CHECK_EXAMPLES: &str = "\
Examples:
  nightferry config check
  nightferry --config /etc/nightferry/nightferry.toml config check
  nightferry store check          then check the stores, too";

fn check(app: &App) -> Result<Exit, Failure> {
    let (exit, warnings, problems) = match app.config(Vec::new()) {
        Ok(config) => {
            let mut warnings = policy::warnings(&config);
            warnings.extend(config.warnings());
            for warning in &warnings {
                app.output.warning(warning);
            }
            (Exit::Ok, warnings, Vec::new())
        }
        Err(failure) => {
            app.output.problem(&failure);
            (failure.exit, Vec::new(), failure.problems)
        }
    };
    let problems: Vec<_> = problems.iter().map(problem_document).collect();
    let valid = exit == Exit::Ok;
    app.output.result(&document!(valid: valid, warnings: warnings, problems: problems), |_| {
        if valid { "The configuration is valid.".to_owned() } else { String::new() }
    })?;
    Ok(exit)
}

const SHOW_EXAMPLES: &str = "\
Examples:
  nightferry config show                 every setting
  nightferry config show stores.minio    one section
  nightferry --json config show | jq -r '.settings[] | select(.source != \"default\") | .key'";

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// Only this setting or section, such as tiering or stores.minio
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

fn show(app: &App, args: &ShowArgs) -> Result<Exit, Failure> {
    let config = app.config(Vec::new())?;
    let settings: Vec<&Setting> = config.settings().iter().filter(|setting| is_in(args, setting)).collect();
    if let (Some(key), true) = (&args.key, settings.is_empty()) {
        let what = format!("There is no setting or section {key}");
        return Err(Failure::new(Exit::NotFound, "not_found", what)
            .advise_command("list all settings", "config show"));
    }
    app.output.result(&document!(settings: &settings), |_| {
        table("SETTING | VALUE | FROM", &settings, |setting| {
            let value = if setting.value.is_empty() { "-".to_owned() } else { plain(&setting.value) };
            [setting.key.clone(), value, setting.source.clone()]
        })
    })
}

fn is_in(args: &ShowArgs, setting: &Setting) -> bool {
    let Some(wanted) = &args.key else { return true };
    setting.key.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
