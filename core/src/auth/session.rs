//! Sessions: sign in, refresh with rotation and reuse detection, sign out.
//!
//! Changes of a session lock its row first and then its refresh tokens: a refresh and a concurrent logout are
//! serialized, and no token outlives its session.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use secrecy::{ExposeSecret as _, SecretString};

use super::Accounts;
use super::guard::{self, Attempt, Reason};
use super::keys::SigningKey;
use super::session_list;
use super::token::{self, Claims};
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::refresh_tokens::{self, RefreshToken};
use crate::db::revoked_tokens;
use crate::db::sessions::{self, SessionRow};
use crate::db::users::{self, User};
use crate::error::{Error, Result};
use crate::ids::SessionId;

/// Two browser tabs may refresh with the same token concurrently; a second use within this time is rejected, but not
/// treated as theft.
const REUSE_GRACE: Duration = Duration::seconds(5);

/// The tokens of a session and its account.
#[derive(Debug)]
pub struct Session {
    /// Signed access token.
    pub access_token: String,
    /// Lifetime of the access token, in seconds.
    pub expires_in: i64,
    /// Refresh token, returned only once.
    pub refresh_token: SecretString,
    /// Lifetime of the refresh token, in seconds.
    pub refresh_expires_in: i64,
    /// Account.
    pub user: User,
}

/// Starts a session with email and password.
///
/// # Errors
/// [`Error::InvalidCredentials`] for an unknown address, a wrong password or a disabled account; [`Error::RateLimited`]
/// after too many failures, whether or not the account exists.
pub async fn login(
    accounts: &Accounts,
    email: &str,
    password: SecretString,
    origin: &Origin,
) -> Result<Session> {
    let context = &accounts.context;
    let (found, attempt) = {
        let mut conn = context.db.conn().await?;
        let now = context.clock.now();
        let attempt = guard::check_allowed(context, &mut conn, email, origin, now).await?;
        (users::find_by_email(&mut conn, email).await?, attempt)
    };
    let hash = found.as_ref().map(|user| user.password_hash.clone());
    let matches = accounts.passwords.verify(attempt.network(), password, hash).await?;
    let (user, reason) = match found {
        None => (None, Reason::UnknownAccount),
        Some(user) if !matches => (Some(user), Reason::WrongPassword),
        Some(user) if user.disabled_at.is_some() => (Some(user), Reason::Disabled),
        Some(user) => match admit(accounts, &user, &attempt, origin).await? {
            Ok(session) => return Ok(session),
            Err(reason) => (Some(user), reason),
        },
    };
    let account = user.map(|user| user.id);
    Err(guard::record_failure(accounts, &attempt, account, reason, origin, context.clock.now()).await?)
}

/// Starts a session after the password has been verified against an earlier state of the account.
async fn admit(
    accounts: &Accounts,
    known: &User,
    attempt: &Attempt,
    origin: &Origin,
) -> Result<Result<Session, Reason>> {
    let context = &accounts.context;
    let now = context.clock.now();
    let signer = accounts.tokens.signer(&context.db, now).await?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        // The password may have been changed, or the account disabled, during hashing.
        let Some(user) = users::lock(conn, known.id).await?.filter(|user| user.disabled_at.is_none()) else {
            return Ok(Err(Reason::Disabled));
        };
        if user.password_hash != known.password_hash {
            return Ok(Err(Reason::WrongPassword));
        }
        guard::record_success(context, conn, attempt, user.id, now).await?;
        start(accounts, conn, &signer, user, serde_json::json!({}), origin).await.map(Ok)
    })
    .await
}

/// Starts a session for an authenticated user; `detail` is the method, for the audit log.
pub(super) async fn start(
    accounts: &Accounts,
    conn: &mut AsyncPgConnection,
    signer: &Arc<SigningKey>,
    user: User,
    detail: serde_json::Value,
    origin: &Origin,
) -> Result<Session> {
    let context = &accounts.context;
    let now = context.clock.now();
    let session = SessionRow {
        id: SessionId::new(),
        user_id: user.id,
        ip: origin.ip.clone(),
        user_agent: origin.user_agent.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: now + refresh_lifetime(context),
        revoked_at: None,
    };
    sessions::insert(conn, &session).await?;
    audit::record(conn, origin, Some(user.id), "session.login", ("session", session.id), detail).await?;
    metrics::counter!("nightferry_logins_total", "outcome" => "ok").increment(1);
    issue(accounts, conn, signer, user, &session, origin).await
}

/// Exchanges a refresh token for new tokens of the same session. The old one becomes invalid.
///
/// # Errors
/// [`Error::TokenExpired`], [`Error::TokenRevoked`], [`Error::Unauthenticated`] for an unknown token, and
/// [`Error::RefreshReused`] for one that has been exchanged before: then the whole session is revoked.
pub async fn refresh(accounts: &Accounts, presented: &SecretString, origin: &Origin) -> Result<Session> {
    let context = &accounts.context;
    let hash = token::hash(presented.expose_secret());
    let now = context.clock.now();
    let signer = accounts.tokens.signer(&context.db, now).await?;
    let mut conn = context.db.conn().await?;
    // The revocation of a family must be committed although the caller gets an error: the outcome is therefore a value
    // here.
    conn.transaction(async move |conn| -> Result<Result<Session>> {
        let Some(found) = refresh_tokens::by_hash(conn, &hash).await? else {
            return Ok(Err(Error::Unauthenticated));
        };
        let session = lock_session(conn, &found, origin, now).await?;
        let Some(old) = refresh_tokens::lock_by_hash(conn, &hash).await? else {
            return Ok(Err(Error::Unauthenticated));
        };
        if old.revoked_at.is_some() || session.revoked_at.is_some() {
            return Ok(Err(Error::TokenRevoked));
        }
        if let Some(rotated_at) = old.rotated_at {
            if now - rotated_at <= REUSE_GRACE {
                return Ok(Err(Error::TokenRevoked));
            }
            session_list::end_in(conn, old.family, old.user_id, now).await?;
            let (actor, target) = (Some(old.user_id), ("session", old.family));
            let action = "session.refresh_reused";
            audit::record(conn, origin, actor, action, target, serde_json::json!({})).await?;
            return Ok(Err(Error::RefreshReused));
        }
        if old.expires_at <= now || session.expires_at <= now {
            return Ok(Err(Error::TokenExpired));
        }
        let Some(user) = users::find(conn, old.user_id).await?.filter(|user| user.disabled_at.is_none())
        else {
            return Ok(Err(Error::TokenRevoked));
        };
        if !refresh_tokens::rotate(conn, old.id, now).await? {
            return Ok(Err(Error::TokenRevoked));
        }
        issue(accounts, conn, &signer, user, &session, origin).await.map(Ok)
    })
    .await?
}

/// Locks the session of a refresh token. A session started by an older version gets its row now.
async fn lock_session(
    conn: &mut AsyncPgConnection,
    token: &RefreshToken,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<SessionRow> {
    if let Some(session) = sessions::lock(conn, token.family).await? {
        return Ok(session);
    }
    let session = SessionRow {
        id: token.family,
        user_id: token.user_id,
        ip: origin.ip.clone(),
        user_agent: origin.user_agent.clone(),
        created_at: now,
        last_used_at: now,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
    };
    sessions::insert(conn, &session).await?;
    let found = sessions::lock(conn, token.family).await?;
    found.ok_or_else(|| Error::Internal("a session has just disappeared".to_owned()))
}

fn refresh_lifetime(context: &Context) -> Duration {
    Duration::from_std(context.config.auth.refresh_token_ttl).unwrap_or(Duration::days(30))
}

async fn issue(
    accounts: &Accounts,
    conn: &mut AsyncPgConnection,
    signer: &Arc<SigningKey>,
    user: User,
    session: &SessionRow,
    origin: &Origin,
) -> Result<Session> {
    let context = &accounts.context;
    let now = context.clock.now();
    let refresh_token = token::new_refresh_token()?;
    let longest = Duration::from_std(context.config.auth.session_max_age).unwrap_or(Duration::days(90));
    let expires_at = (now + refresh_lifetime(context)).min(session.created_at + longest);
    sessions::touch(conn, session.id, now, expires_at, origin).await?;
    let hash = token::hash(refresh_token.expose_secret());
    refresh_tokens::insert(conn, session, &hash, origin, now, expires_at).await?;
    let access_token = accounts.tokens.issue(signer, user.id, session.id, now).await?;
    Ok(Session {
        access_token,
        expires_in: accounts.tokens.lifetime().num_seconds(),
        refresh_token,
        refresh_expires_in: (expires_at - now).num_seconds(),
        user,
    })
}

/// Ends the caller's session: its refresh tokens and this access token.
pub async fn logout(context: &Context, claims: &Claims, origin: &Origin) -> Result<()> {
    let claims = claims.clone();
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        session_list::end_in(conn, claims.sid, claims.sub, now).await?;
        // For instances of an older version, which do not check the session.
        revoked_tokens::insert(conn, claims.jti, claims.sub, claims.expires_at()).await?;
        let (actor, target) = (Some(claims.sub), ("session", claims.sid));
        audit::record(conn, origin, actor, "session.logout", target, serde_json::json!({})).await
    })
    .await
}
