//! The document of a failed command, and configuration problems.

use nightferry_core::config::Problem;
use serde::Serialize;

use crate::errors::{Failure, Next};
use crate::output::document;

#[derive(Serialize)]
struct ErrorBody<'a, N, P> {
    kind: &'a str,
    exit_code: u8,
    message: &'a str,
    reason: Option<&'a str>,
    next: Vec<N>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<P>,
}

pub(crate) fn error_document(failure: &Failure, invocation: &str) -> impl Serialize {
    let command = |command: &String| format!("{invocation} {command}");
    let next = |next: &Next| document!(text: next.text.clone(), command: next.command.as_ref().map(command));
    let error = ErrorBody {
        kind: &failure.kind,
        exit_code: failure.exit.number(),
        message: &failure.what,
        reason: failure.why.as_deref(),
        next: failure.next.iter().map(next).collect(),
        problems: failure.problems.iter().map(problem_document).collect(),
    };
    document!(error: error)
}

pub(crate) fn problem_document(problem: &Problem) -> impl Serialize {
    let Problem { key, source, message, fix } = problem;
    document!(key: key, source: source, message: message, fix: fix)
}
