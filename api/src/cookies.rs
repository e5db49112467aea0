//! The cookies of a session: for browsers, which keep tokens where scripts cannot read them.
//!
//! Over TLS the names have the prefix that keeps other hosts of the domain from setting them (RFC 6265bis section 4.1.3).
//! It binds them to the host and therefore to no path; without it the refresh token is sent to nobody but the refresh.

use actix_web::http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use actix_web::{HttpRequest, HttpResponse};
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use nightferry_core::auth::oidc::ATTEMPT_LIFE;
use nightferry_core::auth::session::Session;
use nightferry_core::config::AuthConfig;
use nightferry_core::error::Error;
use secrecy::ExposeSecret as _;

use crate::error_response::{ApiError, Result};

/// The only path that the refresh token is read at, and that it is sent to where the name's prefix allows a path.
const REFRESH_PATH: &str = "/api/auth/refresh";

/// One of the cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// Access token.
    Access,
    /// Refresh token.
    Refresh,
    /// A sign-in with a provider elsewhere that was begun.
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
            // A link in a message may lead to a file; what changes something is checked apart. And it is the provider's page
            // that leads back here.
            Self::Access | Self::Attempt => SameSite::Lax,
            Self::Refresh => SameSite::Strict,
        }
    }
}

/// The value of a cookie of the request. None where there are several of the name: nobody can say which of them is ours.
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

/// Gives the tokens of a session to the browser.
pub(crate) fn set(response: &mut HttpResponse, auth: &AuthConfig, session: &Session) -> Result<()> {
    let refresh = session.refresh_token.expose_secret();
    put(response, auth, Name::Access, &session.access_token, session.expires_in)?;
    put(response, auth, Name::Refresh, refresh, session.refresh_expires_in)
}

/// Takes the tokens away from a browser that sent one of them.
pub(crate) fn clear(request: &HttpRequest, response: &mut HttpResponse, auth: &AuthConfig) -> Result<()> {
    if read(request, auth, Name::Access).is_none() {
        return Ok(());
    }
    put(response, auth, Name::Access, "", 0)?;
    put(response, auth, Name::Refresh, "", 0)
}

/// Keeps a sign-in that was begun with the browser.
pub(crate) fn set_attempt(response: &mut HttpResponse, auth: &AuthConfig, attempt: &str) -> Result<()> {
    put(response, auth, Name::Attempt, attempt, ATTEMPT_LIFE.num_seconds())
}

/// Takes a sign-in that has ended away from the browser.
pub(crate) fn clear_attempt(response: &mut HttpResponse, auth: &AuthConfig) -> Result<()> {
    put(response, auth, Name::Attempt, "", 0)
}

fn put(response: &mut HttpResponse, auth: &AuthConfig, name: Name, value: &str, seconds: i64) -> Result<()> {
    let cookie = Cookie::build((name.text(auth), value))
        .http_only(true)
        .secure(auth.cookie_secure)
        .same_site(name.same_site())
        .path(name.path(auth))
        .max_age(Duration::seconds(seconds));
    append(response.headers_mut(), &cookie.build().to_string())
}

fn append(headers: &mut HeaderMap, cookie: &str) -> Result<()> {
    let mut value = HeaderValue::try_from(cookie)
        .map_err(|_| ApiError::from(Error::Internal("a cookie does not fit into a header".to_owned())))?;
    value.set_sensitive(true);
    headers.append(SET_COOKIE, value);
    Ok(())
}
