//! Authorization of routes: the caller is authorized before anything else of the request is processed, so that the
//! response to a body or an id reveals nothing to unauthorized callers. If the body arrives later than the headers, the
//! caller is authorized again at that point: holding a request open does not preserve revoked rights.

use std::pin::pin;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Responder, Route, web};
use futures_util::FutureExt as _;
use nightferry_core::auth::permission::Caller;

use crate::error_response::Result;
use crate::extract::access::{Access, RequiresAccess};
use crate::extract::authenticate;

/// A route with this access level to a handler that declares the same.
pub(crate) fn route<A, F, Args>(method: Method, handler: F) -> Route
where
    A: Access,
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + RequiresAccess<A> + 'static,
{
    let authorize_and_handle = move |request: HttpRequest, payload: web::Payload| {
        let handler = handler.clone();
        async move { authorize_and_handle::<A, F, Args>(&handler, request, payload).await }
    };
    web::method(method).to(authorize_and_handle)
}

async fn authorize_and_handle<A, F, Args>(
    handler: &F,
    request: HttpRequest,
    payload: web::Payload,
) -> std::result::Result<HttpResponse, actix_web::Error>
where
    A: Access,
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + RequiresAccess<A> + 'static,
{
    authorize::<A>(&request).await?;
    let mut payload = payload.into_inner();
    let mut reading = pin!(Args::from_request(&request, &mut payload));
    let arguments = if let Some(arguments) = reading.as_mut().now_or_never() {
        arguments.map_err(Into::<actix_web::Error>::into)?
    } else {
        // The rest of the request may take long to arrive: the caller is authorized again once it is complete.
        let mut arguments = reading.await.map_err(Into::<actix_web::Error>::into)?;
        if let Some(caller) = authorize::<A>(&request).await? {
            arguments.renew(caller);
        }
        arguments
    };
    let answer = handler.call(arguments).await.respond_to(&request);
    Ok(answer.map_into_boxed_body())
}

/// Authorizes the caller for a route with this access level, stores the caller in the request, and returns it.
async fn authorize<A: Access>(request: &HttpRequest) -> Result<Option<Caller>> {
    let Some(need) = A::NEED else { return Ok(None) };
    let caller = authenticate::caller(request).await?;
    caller.may(need)?;
    request.extensions_mut().insert(caller.clone());
    Ok(Some(caller))
}
