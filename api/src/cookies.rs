//! The cookies of a session, for browsers: scripts cannot read the tokens in them.
//!
//! Over TLS, the names have the prefix that prevents other hosts of the domain from setting them (RFC 6265bis section
//! 4.1.3). It binds the cookies to the host, and therefore requires the path `/`; without the prefix, the refresh token
//! is sent only to the refresh route.

use actix_web::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse};
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use nightferry_core::auth::oidc::ATTEMPT_LIFETIME;
use nightferry_core::auth::session::Session;
use nightferry_core::config::AuthConfig;
use nightferry_core::error::Error;
use secrecy::ExposeSecret as _;

use crate::error_response::{ApiError, Result};

/// The only path where the refresh token is read, and the path of its cookie if the prefix of the name allows one.
const REFRESH_PATH: &str = "/api/auth/refresh";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Access,
    Refresh,
    /// A started sign-in with an identity provider.
    Attempt,
}

impl Name {
    fn text(self, auth: &AuthConfig) -> &'static str {
        match (self, auth.cookie_secure) {
            (Self::Access, true) => "__Host-nightferry_access",
            (Self::Access, false) => "nightferry_access",
            (Self::Refresh, true) => "__Host-nightferry_refresh",
            (Self::Refresh, false) => "nightferry_refresh",
            (Self::Attempt, true) => "__Host-nightferry_sign_in",
            (Self::Attempt, false) => "nightferry_sign_in",
        }
    }

    fn path(self, auth: &AuthConfig) -> &'static str {
        if self == Self::Refresh && !auth.cookie_secure { REFRESH_PATH } else { "/" }
    }

    fn same_site(self) -> SameSite {
        match self {
            // `Lax`, so that links from other sites to a file work, and so that the redirect from the identity provider
            // carries the cookie. Requests that change state are checked separately.
            Self::Access | Self::Attempt => SameSite::Lax,
            Self::Refresh => SameSite::Strict,
        }
    }
}

/// The value of a cookie of the request. `None` if the name occurs several times, because the genuine one cannot be
/// determined.
pub(crate) fn read(request: &HttpRequest, auth: &AuthConfig, name: Name) -> Option<String> {
    let name = name.text(auth);
    let mut found = request
        .headers()
        .get_all(COOKIE)
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(std::result::Result::ok)
        .filter(|cookie| cookie.name() == name);
    let (Some(cookie), None) = (found.next(), found.next()) else { return None };
    Some(cookie.value().to_owned()).filter(|value| !value.is_empty())
}

/// Sets the tokens of a session as cookies.
pub(crate) fn set(response: &mut HttpResponse, auth: &AuthConfig, session: &Session) -> Result<()> {
    let refresh = session.refresh_token.expose_secret();
    put(response, auth, Name::Access, &session.access_token, session.expires_in)?;
    put(response, auth, Name::Refresh, refresh, session.refresh_expires_in)
}

/// Deletes the token cookies, if the browser sent one of them.
pub(crate) fn clear(request: &HttpRequest, response: &mut HttpResponse, auth: &AuthConfig) -> Result<()> {
    if read(request, auth, Name::Access).is_none() {
        return Ok(());
    }
    put(response, auth, Name::Access, "", 0)?;
    put(response, auth, Name::Refresh, "", 0)
}

/// Stores a started sign-in in the browser; an empty one deletes it.
pub(crate) fn set_attempt(response: &mut HttpResponse, auth: &AuthConfig, attempt: &str) -> Result<()> {
    let seconds = if attempt.is_empty() { 0 } else { ATTEMPT_LIFETIME.num_seconds() };
    put(response, auth, Name::Attempt, attempt, seconds)
}

fn put(response: &mut HttpResponse, auth: &AuthConfig, name: Name, value: &str, seconds: i64) -> Result<()> {
    let cookie = Cookie::build((name.text(auth), value))
        .http_only(true)
        .secure(auth.cookie_secure)
        .same_site(name.same_site())
        .path(name.path(auth))
        .max_age(Duration::seconds(seconds));
    let mut value = HeaderValue::try_from(cookie.build().to_string())
        .map_err(|_| ApiError::from(Error::Internal("the cookie does not fit into a header".to_owned())))?;
    value.set_sensitive(true);
    response.headers_mut().append(SET_COOKIE, value);
    Ok(())
}
