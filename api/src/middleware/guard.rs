//! Wraps each route with its timeout, panic handling, and the runtime for its background work.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, rt, web};
use futures_util::{FutureExt, Stream};
use nightferry_core::error::Error;
use tokio::runtime::Handle;
use tracing::Instrument;

use super::Route;
use crate::error_response::ApiError;
use crate::state::Api;

/// The time limit of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// At most `server.request_timeout`.
    Standard,
    /// As long as data is transferred; the route has its own timeouts. If the client disconnects, the route runs to its
    /// end, so that incomplete work is cleaned up.
    Streaming,
}

pub(crate) async fn guard(
    pattern: &'static str,
    pace: Timeout,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    request.extensions_mut().insert(Route(pattern));
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        return Err(ApiError::from(Error::Internal("a route without its state".to_owned())).into());
    };
    let http = request.request().clone();
    let handling = AssertUnwindSafe(OnRuntime::new(&api.runtime, next.call(request))).catch_unwind();
    let outcome = match pace {
        Timeout::Streaming => rt::spawn(handling.in_current_span()).await.ok(),
        Timeout::Standard => {
            tokio::time::timeout(api.context.config.server.request_timeout, handling).await.ok()
        }
    };
    let error = match outcome {
        Some(Ok(answered)) => return answered,
        Some(Err(_)) => Error::Internal("a handler panicked".to_owned()),
        // A standard route waits for nothing else, and tasks are never cancelled.
        None => Error::DatabaseUnavailable("the request exceeded server.request_timeout".to_owned()),
    };
    Ok(ServiceResponse::from_err(ApiError::from(error), http))
}

/// Polls the wrapped future within another runtime. Each thread of the server has its own runtime, which ends with the
/// server; a pooled connection opened on it would be closed while in use elsewhere.
pub(crate) struct OnRuntime<T> {
    runtime: Handle,
    inner: Pin<Box<T>>,
}

impl<T> OnRuntime<T> {
    /// Creates the middleware.
    pub(crate) fn new(runtime: &Handle, inner: T) -> Self {
        Self { runtime: runtime.clone(), inner: Box::pin(inner) }
    }
}

impl<F: Future> Future for OnRuntime<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _within = this.runtime.enter();
        this.inner.as_mut().poll(cx)
    }
}

impl<S: Stream> Stream for OnRuntime<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = &mut *self;
        let _within = this.runtime.enter();
        this.inner.as_mut().poll_next(cx)
    }
}
