//! The door of a route: who calls is asked before anything else of the request is looked at, so that nobody learns from
//! the answer to a body or an id what they may not know. When the body comes later than the headers, it is asked again
//! then: nobody keeps a right by holding a request open.

use std::pin::pin;

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Responder, Route, web};
use futures_util::FutureExt as _;
use nightferry_core::auth::permission::Caller;

use crate::error_response::Result;
use crate::extract::access::{Access, Asks};
use crate::extract::authenticate;

/// A route of this access to a handler that states the same.
pub(crate) fn route<A, F, Args>(method: Method, handler: F) -> Route
where
    A: Access,
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + Asks<A> + 'static,
{
    let enter = move |request: HttpRequest, payload: web::Payload| {
        let handler = handler.clone();
        async move { enter::<A, F, Args>(&handler, request, payload).await }
    };
    web::method(method).to(enter)
}

async fn enter<A, F, Args>(
    handler: &F,
    request: HttpRequest,
    payload: web::Payload,
) -> std::result::Result<HttpResponse, actix_web::Error>
where
    A: Access,
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + Asks<A> + 'static,
{
    admit::<A>(&request).await?;
    let mut payload = payload.into_inner();
    let mut reading = pin!(Args::from_request(&request, &mut payload));
    let arguments = if let Some(arguments) = reading.as_mut().now_or_never() {
        arguments.map_err(Into::<actix_web::Error>::into)?
    } else {
        // The rest of the request is still on its way, and may be for long: who may call is asked again when it is here.
        let mut arguments = reading.await.map_err(Into::<actix_web::Error>::into)?;
        if let Some(caller) = admit::<A>(&request).await? {
            arguments.renew(caller);
        }
        arguments
    };
    let answer = handler.call(arguments).await.respond_to(&request);
    Ok(answer.map_into_boxed_body())
}

/// Lets in who may call a route of this access, leaves who that is with the request, and answers it.
async fn admit<A: Access>(request: &HttpRequest) -> Result<Option<Caller>> {
    let Some(need) = A::NEED else { return Ok(None) };
    let caller = authenticate::caller(request).await?;
    caller.may(need)?;
    request.extensions_mut().insert(caller.clone());
    Ok(Some(caller))
}
