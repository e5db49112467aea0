//! Sign-in with an identity provider: OpenID Connect Core 1.0, authorization code flow with PKCE (RFC 7636).
//!
//! The data of an attempt (state, nonce, verifier and destination) is stored encrypted in a cookie of the browser that
//! started it. A response is therefore useless in another browser, and abandoned attempts leave no state.

mod attempt;
mod id_token;
mod link;
mod provider;

use chrono::Duration;
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use self::attempt::Attempt;
pub use self::provider::Providers;
use super::Accounts;
use super::guard::{self, Reason};
use super::session::Session;
use crate::config::OidcConfig;
use crate::context::Context;
use crate::db::audit::Origin;
use crate::error::{Error, Noun, Result};

/// Time limit for signing in at the provider.
pub const ATTEMPT_LIFETIME: Duration = Duration::minutes(10);

/// Maximum number of characters of a provider's error code to log.
const LOGGED: usize = 64;

/// A started sign-in.
#[derive(Debug)]
pub struct Started {
    /// The URL for the browser.
    pub address: Url,
    /// The cookie for the browser.
    pub attempt: String,
}

/// A successful sign-in.
#[derive(Debug)]
pub struct Finished {
    /// The session.
    pub session: Session,
    /// Where to redirect the browser after the sign-in.
    pub return_to: String,
}

/// The parameters with which the provider redirects back.
#[derive(Debug)]
pub struct Answer {
    /// The code to exchange for tokens.
    pub code: Option<String>,
    /// The state of the attempt.
    pub state: Option<String>,
    /// The provider (RFC 9207).
    pub issuer: Option<String>,
    /// The error, if there is no code.
    pub error: Option<String>,
}

/// Starts a sign-in with the provider of this name.
///
/// # Errors
/// [`Error::NotFound`] if there is no such provider, [`Error::Validation`] if `return_to` is not allowed,
/// [`Error::Provider`] if the provider is unreachable.
pub async fn start(
    accounts: &Accounts,
    name: &str,
    return_to: Option<&str>,
    redirect_uri: &str,
) -> Result<Started> {
    let context = &accounts.context;
    let config = config(context, name)?;
    let return_to = allowed(context, return_to.unwrap_or("/"))?;
    let metadata = accounts.oidc.metadata(name, config, false).await?;
    let attempt = Attempt::new(name, return_to, context.clock.now() + ATTEMPT_LIFETIME)?;
    let challenge = attempt::encode(&Sha256::digest(attempt.verifier.as_bytes()));
    let mut address = metadata.authorization_endpoint.clone();
    address
        .query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &config.client_id)
        .append_pair("redirect_uri", redirect_uri)
        .append_pair("scope", &config.scopes)
        .append_pair("state", &attempt.state)
        .append_pair("nonce", &attempt.nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    Ok(Started { address, attempt: accounts.oidc.encrypt(&attempt)? })
}

/// Finishes a sign-in: exchanges the code, validates the identity, and starts a session for its account.
///
/// # Errors
/// [`Error::SignInRefused`] with the reason, [`Error::Provider`] if the provider is unreachable.
pub async fn finish(
    accounts: &Accounts,
    name: &str,
    attempt: Option<&str>,
    answer: &Answer,
    redirect_uri: &str,
    origin: &Origin,
) -> Result<Finished> {
    const UNKNOWN: Error =
        Error::SignInRefused("This sign-in was not started in this browser, or has expired. Start again.");
    let context = &accounts.context;
    let config = config(context, name)?;
    let now = context.clock.now();
    let attempt = attempt.and_then(|encrypted| accounts.oidc.decrypt(name, encrypted)).ok_or(UNKNOWN)?;
    let state = answer.state.as_deref().unwrap_or_default();
    if !attempt::same(state, &attempt.state) || attempt.expires_at <= now {
        return Err(UNKNOWN);
    }
    let metadata = accounts.oidc.metadata(name, config, false).await?;
    if answer.issuer.as_ref().is_some_and(|issuer| *issuer != metadata.issuer) {
        return Err(Error::SignInRefused("The response is not from the expected provider."));
    }
    if let Some(error) = &answer.error {
        tracing::info!(provider = %name, error = sanitized(error), "a provider rejected a sign-in");
        return Err(Error::SignInRefused("The provider rejected the sign-in."));
    }
    let code = answer.code.as_deref().ok_or(Error::SignInRefused("The provider's response has no code."))?;
    let token = accounts.oidc.exchange(config, &metadata, code, &attempt.verifier, redirect_uri).await?;
    let checked = id_token::check(accounts, name, config, &metadata, &token, &attempt.nonce).await;
    if let Err(Error::SignInRefused(_)) = &checked {
        guard::record_rejection(accounts, None, Reason::BadIdToken, name, origin);
    }
    let claims = checked?;
    let session = link::sign_in(accounts, name, config, &claims, origin).await?;
    Ok(Finished { session, return_to: attempt.return_to })
}

/// An error code from outside, on one line and truncated: anyone can open this URL with any content.
fn sanitized(error: &str) -> String {
    let cut: String = error.chars().take(LOGGED).collect();
    cut.escape_debug().to_string()
}

fn config<'c>(context: &'c Context, name: &str) -> Result<&'c OidcConfig> {
    context.config.auth.oidc.get(name).ok_or(Error::NotFound(Noun::Provider))
}

/// The allowed destinations after signing in: a path of this service, or a page on a configured origin.
fn allowed(context: &Context, return_to: &str) -> Result<String> {
    let is_plain = !return_to.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\');
    let is_path = return_to.starts_with('/') && !return_to.starts_with("//");
    let origins = &context.config.auth.cookie_origins;
    let is_named = || {
        Url::parse(return_to).is_ok_and(|url| {
            let has_user = !url.username().is_empty() || url.password().is_some();
            !has_user && origins.contains(&url.origin().ascii_serialization())
        })
    };
    if is_plain && return_to.len() <= 2000 && (is_path || is_named()) {
        return Ok(return_to.to_owned());
    }
    Err(Error::field("return_to", "must be a path of this service, such as \"/files\""))
}

#[cfg(test)]
mod tests {
    use super::sanitized;

    #[test]
    fn text_from_a_provider_cannot_forge_log_lines() {
        assert_eq!(sanitized("access_denied"), "access_denied");
        let forged = sanitized("x\n2026-01-01 INFO all is well\r\u{1b}[2J\u{202e}");
        assert!(!forged.chars().any(char::is_control), "{forged:?}");
        assert!(forged.starts_with("x\\n2026"), "{forged}");
        assert_eq!(sanitized(&"x".repeat(1000)).len(), 64);
    }
}
