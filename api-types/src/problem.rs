//! Problem documents (RFC 9457).

use serde::Serialize;
use utoipa::ToSchema;

/// Why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status and `error_code` say it all.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A sentence for people.
    pub detail: String,
    /// A stable name for programs.
    #[schema(example = "NOT_FOUND")]
    pub error_code: &'static str,
    /// Whether the same request may succeed later, unchanged.
    pub retryable: bool,
    /// The request's id, as in the header `X-Request-Id` and in the service's log.
    pub request_id: String,
    /// The fields that were refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldProblem>,
}

/// A field that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Its name.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}
