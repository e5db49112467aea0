//! The door of a route: who calls is asked before anything else of the request is looked at, so that nobody learns from
//! the answer to a body or an id what they may not know.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Responder, Route, web};

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
    let arguments = Args::from_request(&request, &mut payload.into_inner())
        .await
        .map_err(Into::<actix_web::Error>::into)?;
    let answer = handler.call(arguments).await.respond_to(&request);
    Ok(answer.map_into_boxed_body())
}

/// Lets in who may call a route of this access, and leaves who that is with the request.
async fn admit<A: Access>(request: &HttpRequest) -> Result<()> {
    let Some(need) = A::NEED else { return Ok(()) };
    let caller = authenticate::caller(request).await?;
    caller.may(need)?;
    request.extensions_mut().insert(caller);
    Ok(())
}
