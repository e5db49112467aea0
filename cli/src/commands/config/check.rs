//! `nightferry config check`: everything that is wrong, at once. Connects to nothing.

use nightferry_core::tiering::policy;
use serde::Serialize;

use super::App;
use crate::documents::ProblemDocument;
use crate::errors::{Exit, Failure};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry config check
  nightferry --config /etc/nightferry/nightferry.toml config check
  nightferry store check          then see whether the stores answer, too";

#[derive(Serialize)]
struct Document<'a> {
    valid: bool,
    /// What rules cost that one may not expect, former names of settings, and keys that others can read.
    warnings: Vec<String>,
    problems: Vec<ProblemDocument<'a>>,
}

pub(super) fn run(app: &App) -> Result<Exit, Failure> {
    match app.config(Vec::new()) {
        Ok(config) => {
            let mut warnings = policy::warnings(&config);
            warnings.extend(config.warnings());
            for warning in &warnings {
                app.output.warning(warning);
            }
            let document = Document { valid: true, problems: Vec::new(), warnings };
            app.output.result(&document, |_| "The configuration is valid.".to_owned())?;
            Ok(Exit::Ok)
        }
        Err(failure) => {
            let problems = failure.problems.iter().map(ProblemDocument::of).collect();
            app.output.problem(&failure);
            app.output
                .result(&Document { valid: false, problems, warnings: Vec::new() }, |_| String::new())?;
            Ok(failure.exit)
        }
    }
}
