//! `nightferry config check`: everything that is wrong, at once. Connects to nothing.

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
    problems: Vec<ProblemDocument<'a>>,
}

pub(super) fn run(app: &App) -> Result<Exit, Failure> {
    match app.config(Vec::new()) {
        Ok(_) => {
            let document = Document { valid: true, problems: Vec::new() };
            app.output.result(&document, |_| "The configuration is valid.".to_owned())?;
            Ok(Exit::Ok)
        }
        Err(failure) => {
            let problems = failure.problems.iter().map(ProblemDocument::of).collect();
            app.output.problem(&failure);
            app.output.result(&Document { valid: false, problems }, |_| String::new())?;
            Ok(failure.exit)
        }
    }
}
