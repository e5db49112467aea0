//! Turns every error response into a problem document (RFC 9457), including those of actix itself.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use nightferry_api_types::problem::{FieldProblem, Problem};
use nightferry_core::error::Category;

use super::RequestId;
use crate::error_response::{ApiError, INTERNAL, code_of_status};

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Writes the body of an error response without one; logs the cause of a 5xx.
pub(super) fn write(response: ServiceResponse<BoxBody>, id: &RequestId) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    let is_empty = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
    let raised = response.response().error();
    if !is_failure || (raised.is_none() && !is_empty) {
        return response;
    }
    if status.is_server_error() {
        if let Some(error) = raised {
            tracing::error!(request_id = %id, %error, "the request failed");
        } else {
            tracing::error!(request_id = %id, %status, "the request failed");
        }
    }
    let (code, detail, fields) = match raised.and_then(|error| error.as_error::<ApiError>()) {
        Some(own) => (own.code(), own.detail(), own.fields().to_vec()),
        None => (code_of_status(status), detail_of(status).to_owned(), Vec::new()),
    };
    let errors = fields.into_iter().map(|wrong| FieldProblem { field: wrong.field, message: wrong.message });
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        error_code: code.as_str(),
        retryable: code.category() == Category::Temporary,
        request_id: id.to_string(),
        errors: errors.collect(),
    };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = response.map_body(|_, _| BoxBody::new(body));
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    response
}

/// The message for an error raised by actix itself.
fn detail_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "There is no resource at this address.",
        status if status.is_client_error() => "The request is malformed.",
        _ => INTERNAL,
    }
}
