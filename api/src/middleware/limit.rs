//! Applies the rate limits before a request is processed, and sets the RateLimit headers.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use nightferry_core::auth::network;
use nightferry_core::auth::personal_token::is_personal;
use nightferry_core::error::Error::RateLimited;

use super::OnRuntime;
use crate::client::Client;
use crate::cookies;
use crate::error_response::ApiError;
use crate::extract::authenticate;
use crate::limits::{Key, Kind, Verdict};
use crate::state::Api;

pub(crate) async fn limit(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else { return next.call(request).await };
    let Some(verdict) = OnRuntime::new(&api.runtime, count(&api, &request)).await else {
        return next.call(request).await;
    };
    let mut response = match verdict.retry_after {
        Some(retry_after) => {
            let refused = ApiError::from(RateLimited { retry_after });
            ServiceResponse::from_err(refused, request.into_parts().0)
        }
        None => next.call(request).await?,
    };
    verdict.tell(response.headers_mut());
    Ok(response)
}

/// Counts a request. `None` if it is not limited.
async fn count(api: &Api, request: &ServiceRequest) -> Option<Verdict> {
    // The same path can be written in several ways in the request line.
    let kind = api.limits.kind_of(request.match_info().as_str())?;
    let caller = match kind {
        Kind::Auth => network_of(request),
        Kind::Other => caller_of(api, request).await,
    };
    api.limits.check(kind, &caller).await
}

/// The network of the client.
fn network_of(request: &ServiceRequest) -> Key {
    let client = request.extensions().get::<Client>().copied();
    client.and_then(|client| client.ip).map_or(Key::Nobody, |ip| Key::Network(network::of(ip)))
}

/// The account whose session makes a request, or else the network that it comes from. An access token counts only if
/// its signature is valid, so inventing tokens does not create new callers. Personal access tokens count as their
/// network, because checking one takes a database query, which a limited request must not cause.
async fn caller_of(api: &Api, request: &ServiceRequest) -> Key {
    let Some(token) = access_token(api, request) else { return network_of(request) };
    match api.accounts.tokens.check(&api.context.db, &token, api.context.clock.now()).await {
        Ok(claims) => Key::Account(claims.sub),
        Err(_) => network_of(request),
    }
}

/// A session's access token, in the header or the cookie.
fn access_token(api: &Api, request: &ServiceRequest) -> Option<String> {
    let token = if request.headers().contains_key(AUTHORIZATION) {
        authenticate::bearer(request.request())?
    } else {
        cookies::read(request.request(), &api.context.config.auth, cookies::Name::Access)?
    };
    (!is_personal(&token)).then_some(token)
}
