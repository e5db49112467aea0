//! `nightferry config check`: everything that is wrong, at once. Connects to nothing.

use nightferry_core::config::StoreConfig;
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
    warnings: Vec<String>,
    problems: Vec<ProblemDocument<'a>>,
}

pub(super) fn run(app: &App) -> Result<Exit, Failure> {
    match app.config(Vec::new()) {
        Ok(config) => {
            let warnings: Vec<String> = config.stores.values().filter_map(StoreConfig::key_warning).collect();
            let document = Document { valid: true, warnings, problems: Vec::new() };
            app.output.result(&document, |_| {
                let warnings = document.warnings.iter().map(|warning| format!("\nwarning: {warning}"));
                format!("The configuration is valid.{}", warnings.collect::<String>())
            })?;
            Ok(Exit::Ok)
        }
        Err(failure) => {
            let problems = failure.problems.iter().map(ProblemDocument::of).collect();
            app.output.problem(&failure);
            app.output
                .result(&Document { valid: false, warnings: Vec::new(), problems }, |_| String::new())?;
            Ok(failure.exit)
        }
    }
}
