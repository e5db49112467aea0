//! `nightferry config check`: reports all errors at once. Connects to nothing.

use nightferry_core::tiering::policy;

use super::App;
use crate::documents::ProblemDocument;
use crate::errors::{Exit, Failure};
use crate::output::document;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry config check
  nightferry --config /etc/nightferry/nightferry.toml config check
  nightferry store check          then check the stores, too";

pub(super) fn run(app: &App) -> Result<Exit, Failure> {
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
    let problems: Vec<_> = problems.iter().map(ProblemDocument::of).collect();
    let valid = exit == Exit::Ok;
    app.output.result(&document!(valid: valid, warnings: warnings, problems: problems), |_| {
        if valid { "The configuration is valid.".to_owned() } else { String::new() }
    })?;
    Ok(exit)
}
