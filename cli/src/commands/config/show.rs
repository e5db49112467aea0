//! `nightferry config show`: the effective settings. Secrets are masked.

use clap::Args;
use nightferry_core::config::Setting;

use super::App;
use crate::errors::{Exit, Failure};
use crate::format::table::{Table, plain};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry config show                 every setting
  nightferry config show stores.minio    one section
  nightferry --json config show | jq -r '.settings[] | select(.source != \"default\") | .key'";

/// Options of `config show`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
    /// Only this setting or section, such as tiering or stores.minio
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

pub(super) fn run(app: &App, args: &ShowArgs) -> Result<Exit, Failure> {
    let config = app.config(Vec::new())?;
    let settings: Vec<&Setting> = config.settings().iter().filter(|setting| is_in(args, setting)).collect();
    if let (Some(key), true) = (&args.key, settings.is_empty()) {
        return Err(Failure::new(
            Exit::NotFound,
            "not_found",
            format!("There is no setting or section {key}"),
        )
        .advise_command("list all settings", "config show"));
    }
    app.output.result(&document!(settings: &settings), |_| table(&settings))?;
    Ok(Exit::Ok)
}

fn is_in(args: &ShowArgs, setting: &Setting) -> bool {
    let Some(wanted) = &args.key else { return true };
    setting.key.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn table(settings: &[&Setting]) -> String {
    let mut table = Table::new("SETTING | VALUE | SOURCE");
    for setting in settings {
        let value = if setting.value.is_empty() { "-".to_owned() } else { plain(&setting.value) };
        table.row([setting.key.clone(), value, setting.source.clone()]);
    }
    table.render()
}
