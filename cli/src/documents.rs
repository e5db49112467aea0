//! The document of a failed command, and configuration problems.

use nightferry_core::config::Problem;
use serde::Serialize;

use crate::errors::{Failure, Next};

/// The document of a failed command.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    kind: &'a str,
    exit_code: u8,
    message: &'a str,
    reason: Option<&'a str>,
    next: Vec<NextDocument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<ProblemDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct NextDocument<'a> {
    text: &'a str,
    command: Option<String>,
}

/// One configuration problem.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemDocument<'a> {
    key: &'a str,
    source: &'a str,
    message: &'a str,
    fix: &'a str,
}

impl<'a> ErrorDocument<'a> {
    pub(crate) fn of(failure: &'a Failure, invocation: &str) -> Self {
        let next = |next: &'a Next| NextDocument {
            text: &next.text,
            command: next.command.as_ref().map(|command| format!("{invocation} {command}")),
        };
        Self {
            error: ErrorBody {
                kind: &failure.kind,
                exit_code: failure.exit.number(),
                message: &failure.what,
                reason: failure.why.as_deref(),
                next: failure.next.iter().map(next).collect(),
                problems: failure.problems.iter().map(ProblemDocument::of).collect(),
            },
        }
    }
}

impl<'a> ProblemDocument<'a> {
    pub(crate) fn of(problem: &'a Problem) -> Self {
        Self { key: &problem.key, source: &problem.source, message: &problem.message, fix: &problem.fix }
    }
}
