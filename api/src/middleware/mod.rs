//! The middleware of all requests: outermost [`around`], which sets the request id, headers and problem document, and
//! writes log and metrics; then [`limit`], which applies rate limits; around each route [`guard`], which applies
//! timeouts and catches panics.

mod access_log;
mod guard;
mod limit;
mod problem;
mod request_id;
mod security_headers;

use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use nightferry_core::error::Error::Internal;
use tracing::Instrument;

pub(crate) use guard::{OnRuntime, Timeout, guard};
pub(crate) use limit::limit;
pub(crate) use request_id::RequestId;

use crate::client::Client;
use crate::error_response::ApiError;
use crate::metrics;
use crate::state::Api;

/// The route pattern of a request, stored in its extensions for log and metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route(pub(crate) &'static str);

pub(crate) async fn around(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let id = request_id::of(&request);
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        return Err(ApiError::from(Internal("a server without its state".to_owned())).into());
    };
    let client = Client::of(&request, &api.context.config.server);
    request.extensions_mut().insert(client);
    let span = tracing::info_span!("request", request_id = %id);
    let response = next.call(request).instrument(span.clone()).await?;
    let _in_span = span.enter();
    let mut response = problem::write(response, &id);
    request_id::put(&mut response, &id);
    security_headers::put(&mut response, client.https);
    let route = response.request().extensions().get::<Route>().map_or("unmatched", |route| route.0);
    metrics::request(response.request().method(), route, response.status(), started.elapsed());
    access_log::write(client.ip, route, &response, started.elapsed());
    Ok(response)
}
