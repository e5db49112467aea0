//! Problem documents (RFC 9457).

use serde::Serialize;
use utoipa::ToSchema;

/// Why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: the status and `error_code` say it all.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The status in words.
    pub(crate) title: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// A sentence for people.
    pub(crate) detail: String,
    /// A stable name for programs.
    #[schema(example = "NOT_FOUND")]
    pub(crate) error_code: &'static str,
    /// Whether the same request may succeed later, unchanged.
    pub(crate) retryable: bool,
    /// The request's id, as in the header `X-Request-Id` and in the service's log.
    pub(crate) request_id: String,
    /// The fields that were refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub(crate) errors: Vec<FieldProblem>,
}

/// A field that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// Its name.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) message: String,
}
