//! Who makes the request, proved by its access token. [`Admin`] is a type of its own: a handler that takes it cannot
//! be reached by anybody else, and one that needs it cannot forget to ask.

use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use nightferry_core::auth::session;
use nightferry_core::error::Error;

use crate::error_response::{ApiError, Result};
use crate::state::Api;

/// Somebody who is signed in.
pub(crate) struct Caller(pub(crate) session::Caller);

/// Somebody who is signed in and an administrator.
pub(crate) struct Admin(pub(crate) session::Caller);

impl Deref for Caller {
    type Target = session::Caller;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Deref for Admin {
    type Target = session::Caller;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = bearer(request).zip(request.app_data::<web::Data<Api>>().cloned());
        async move {
            let (token, api) = found.ok_or(Error::Unauthenticated)?;
            Ok(Self(session::authenticate(&api.context, &token).await?))
        }
        .boxed_local()
    }
}

impl FromRequest for Admin {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = Caller::from_request(request, payload);
        async move {
            let Caller(caller) = caller.await?;
            if !caller.is_admin() {
                return Err(Error::Forbidden("Only administrators may do this.").into());
            }
            Ok(Self(caller))
        }
        .boxed_local()
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750 section 2.1).
fn bearer(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_bearer_tokens_are_read() {
        let read =
            |value: &str| bearer(&TestRequest::get().insert_header((AUTHORIZATION, value)).to_http_request());
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        for wrong in ["abc", "Basic abc", "Bearer", ""] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
