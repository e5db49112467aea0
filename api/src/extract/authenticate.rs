//! Authentication of requests.

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpRequest, web};
use nightferry_core::auth::authenticate::authenticate;
use nightferry_core::auth::permission::Caller;
use nightferry_core::auth::personal_token::is_personal;
use nightferry_core::error::Error;

use crate::cookies;
use crate::cross_site;
use crate::error_response::Result;
use crate::state::Api;

/// Authenticates the caller: by the token in the header, or else by the session cookie.
pub(crate) async fn caller(request: &HttpRequest) -> Result<Caller> {
    let api = request.app_data::<web::Data<Api>>().ok_or(Error::Unauthenticated)?;
    let token = if request.headers().contains_key(AUTHORIZATION) {
        bearer(request).ok_or(Error::Unauthenticated)?
    } else {
        let auth = &api.context.config.auth;
        let token = cookies::read(request, auth, cookies::Name::Access).ok_or(Error::Unauthenticated)?;
        // Browsers only get session tokens; anything else in a cookie is not ours.
        if is_personal(&token) {
            return Err(Error::Unauthenticated.into());
        }
        cross_site::check(request, api)?;
        token
    };
    Ok(authenticate(&api.accounts, &token).await?)
}

/// The token of `Authorization: Bearer …` (RFC 6750 section 2.1).
pub(crate) fn bearer(request: &HttpRequest) -> Option<String> {
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
