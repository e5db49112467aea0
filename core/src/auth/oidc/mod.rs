//! Signing in with a provider elsewhere: OpenID Connect Core 1.0, authorization code with PKCE (RFC 7636).
//!
//! What belongs to one attempt lies sealed in a cookie of the browser that began it: state, nonce, verifier and where to go
//! after. So an answer that another browser began is worth nothing, and nothing is kept for attempts that are given up.

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

/// How long somebody may take to sign in at the provider.
pub const ATTEMPT_LIFE: Duration = Duration::minutes(10);

/// How much of a provider's word for an error is logged, in characters.
const LOGGED: usize = 64;

/// A sign-in that begins.
#[derive(Debug)]
pub struct Started {
    /// Where the browser goes.
    pub address: Url,
    /// What it keeps until it comes back.
    pub attempt: String,
}

/// A sign-in that ended well.
#[derive(Debug)]
pub struct Finished {
    /// The session.
    pub session: Session,
    /// Where the browser goes.
    pub return_to: String,
}

/// What the provider sends the browser back with.
#[derive(Debug)]
pub struct Answer {
    /// To be exchanged for tokens.
    pub code: Option<String>,
    /// The attempt's.
    pub state: Option<String>,
    /// The provider (RFC 9207).
    pub issuer: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
}

/// Begins a sign-in with the provider of this name.
///
/// # Errors
/// [`Error::NotFound`] when there is no such provider, [`Error::Validation`] when `return_to` leads elsewhere,
/// [`Error::Provider`] when the provider cannot be asked.
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
    let attempt = Attempt::new(name, return_to, context.clock.now() + ATTEMPT_LIFE)?;
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
    Ok(Started { address, attempt: accounts.oidc.seal(&attempt)? })
}

/// Ends a sign-in: exchanges the code, checks who it is, and starts a session of their account.
///
/// # Errors
/// [`Error::SignInRefused`] with the reason, [`Error::Provider`] when the provider cannot be asked.
pub async fn finish(
    accounts: &Accounts,
    name: &str,
    attempt: Option<&str>,
    answer: &Answer,
    redirect_uri: &str,
    origin: &Origin,
) -> Result<Finished> {
    const UNKNOWN: Error =
        Error::SignInRefused("This sign-in was not begun in this browser, or too long ago. Begin again.");
    let context = &accounts.context;
    let config = config(context, name)?;
    let now = context.clock.now();
    let attempt = attempt.and_then(|sealed| accounts.oidc.open(name, sealed)).ok_or(UNKNOWN)?;
    let state = answer.state.as_deref().unwrap_or_default();
    if !attempt::same(state, &attempt.state) || attempt.expires_at <= now {
        return Err(UNKNOWN);
    }
    let metadata = accounts.oidc.metadata(name, config, false).await?;
    if answer.issuer.as_ref().is_some_and(|issuer| *issuer != metadata.issuer) {
        return Err(Error::SignInRefused("The answer is not from the provider that was asked."));
    }
    if let Some(error) = &answer.error {
        tracing::info!(provider = %name, error = loggable(error), "a provider refused a sign-in");
        return Err(Error::SignInRefused("The provider did not sign you in."));
    }
    let code = answer.code.as_deref().ok_or(Error::SignInRefused("The provider's answer has no code."))?;
    let token = accounts.oidc.exchange(config, &metadata, code, &attempt.verifier, redirect_uri).await?;
    let checked = id_token::check(accounts, name, config, &metadata, &token, &attempt.nonce).await;
    if let Err(Error::SignInRefused(_)) = &checked {
        guard::turned_away(accounts, None, Reason::BadIdToken, name, origin);
    }
    let claims = checked?;
    let session = link::sign_in(accounts, name, config, &claims, origin).await?;
    Ok(Finished { session, return_to: attempt.return_to })
}

/// Somebody else's word for an error, on one line and not too long: whoever opens the address can write anything there.
fn loggable(error: &str) -> String {
    let cut: String = error.chars().take(LOGGED).collect();
    cut.escape_debug().to_string()
}

fn config<'c>(context: &'c Context, name: &str) -> Result<&'c OidcConfig> {
    context.config.auth.oidc.get(name).ok_or(Error::NotFound(Noun::Provider))
}

/// Where a browser may be sent after signing in: to a path of this service, or to a page that the configuration names.
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
    use super::loggable;

    #[test]
    fn what_a_provider_says_cannot_forge_a_line_of_the_log() {
        assert_eq!(loggable("access_denied"), "access_denied");
        let forged = loggable("x\n2026-01-01 INFO all is well\r\u{1b}[2J\u{202e}");
        assert!(!forged.chars().any(char::is_control), "{forged:?}");
        assert!(forged.starts_with("x\\n2026"), "{forged}");
        assert_eq!(loggable(&"x".repeat(1000)).len(), 64);
    }
}
