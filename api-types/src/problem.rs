//! Problem documents (RFC 9457).

use serde::Serialize;
use utoipa::ToSchema;

/// Describes why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status and `error_code` identify the problem.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status as text.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A message for humans.
    pub detail: String,
    /// A stable error code for programs.
    #[schema(example = "NOT_FOUND")]
    pub error_code: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The request id, as in the header `X-Request-Id` and in the log of the service.
    pub request_id: String,
    /// The invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldProblem>,
}

/// An invalid field.
#[derive(Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Name.
    pub field: String,
    /// What is wrong with the field.
    pub message: String,
}
