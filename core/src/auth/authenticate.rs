//! Authentication of every request: resolves an access token or a personal access token to its account. Takes one round
//! trip to the database, on each request, so that revocations take effect immediately on all instances.

use super::Accounts;
use super::permission::{Caller, Proof};
use super::personal_token;
use crate::db::sessions;
use crate::error::{Error, Result};

/// Validates a token of either kind: its signature and expiry, that it and its session are active, and that the account
/// is enabled.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::TokenExpired`], [`Error::TokenRevoked`].
pub async fn authenticate(accounts: &Accounts, token: &str) -> Result<Caller> {
    let context = &accounts.context;
    if personal_token::is_personal(token) {
        return personal_token::authenticate(context, token).await;
    }
    let now = context.clock.now();
    let claims = accounts.tokens.check(&context.db, token, now).await?;
    let mut conn = context.db.conn().await?;
    match sessions::user_of(&mut conn, claims.sub, claims.sid, claims.jti, now).await? {
        None => Err(Error::Unauthenticated),
        Some((user, live)) if !live || user.disabled_at.is_some() => Err(Error::TokenRevoked),
        Some((user, _)) => Ok(Caller { user, proof: Proof::Session(claims) }),
    }
}
