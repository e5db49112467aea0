//! Sessions: sign in, refresh with rotation and reuse detection, sign out, and the check of every request.

use chrono::{DateTime, Duration, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use secrecy::SecretString;

use super::guard::{self, Attempt, Reason};
use super::token::{self, Claims};
use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::refresh_tokens::{self, NewRefreshToken};
use crate::db::users::{self, User};
use crate::db::{enums::UserRole, revoked_tokens};
use crate::error::{Error, Result};
use crate::ids::{RefreshTokenId, SessionId};

/// Two tabs may refresh with the same token at once; a second use this soon is refused but not taken for theft.
const REUSE_GRACE: Duration = Duration::seconds(5);

/// The two tokens of a session and whose they are.
#[derive(Debug)]
pub struct Session {
    /// Signed access token.
    pub access_token: String,
    /// Lifetime of the access token, in seconds.
    pub expires_in: i64,
    /// Refresh token, shown once.
    pub refresh_token: SecretString,
    /// Account.
    pub user: User,
}

/// Who makes a request, proved by an access token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Account.
    pub user: User,
    /// What the token says.
    pub claims: Claims,
}

impl Caller {
    /// Whether the caller has the role of an administrator.
    pub fn is_admin(&self) -> bool {
        self.user.role == UserRole::Admin
    }
}

/// Starts a session with email and password.
///
/// # Errors
/// [`Error::InvalidCredentials`] for an unknown address, a wrong password or a disabled account alike;
/// [`Error::RateLimited`] for whoever has guessed too often, whether or not there is such an account.
pub async fn login(
    context: &Context,
    email: &str,
    password: SecretString,
    origin: &Origin,
) -> Result<Session> {
    let now = context.clock.now();
    let (found, attempt) = {
        let mut conn = context.db.conn().await?;
        let attempt = guard::look(context, &mut conn, email, origin, now).await?;
        (users::find_by_email(&mut conn, email).await?, attempt)
    };
    let hash = found.as_ref().map(|user| user.password_hash.clone());
    let matches = context.passwords.verify(password, hash).await?;
    let now = context.clock.now();
    let (user, reason) = match found {
        None => (None, Reason::UnknownAccount),
        Some(user) if !matches => (Some(user), Reason::WrongPassword),
        Some(user) if user.disabled_at.is_some() => (Some(user), Reason::Disabled),
        Some(user) => match start(context, &user, &attempt, origin, now).await? {
            Some(session) => return Ok(session),
            None => (Some(user), Reason::Disabled),
        },
    };
    let account = user.map(|user| user.id);
    Err(guard::failed(context, &attempt, account, reason, origin, now).await?)
}

/// Starts a session for somebody who has proved who they are; none when the account was disabled meanwhile.
async fn start(
    context: &Context,
    user: &User,
    attempt: &Attempt,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Option<Session>> {
    let session = SessionId::new();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let Some(user) = users::hold(conn, user.id).await?.filter(|user| user.disabled_at.is_none()) else {
            return Ok(None);
        };
        guard::passed(conn, attempt, user.id, now).await?;
        let event = Event {
            actor: Some(user.id),
            action: "session.login",
            target_type: "session",
            target_id: session.to_string(),
            origin,
            detail: serde_json::json!({}),
        };
        audit::record(conn, event).await?;
        issue(context, conn, user, session, origin, now).await.map(Some)
    })
    .await
}

/// Exchanges a refresh token for new tokens of the same session. The old one dies.
///
/// # Errors
/// [`Error::TokenExpired`], [`Error::TokenRevoked`], [`Error::Unauthenticated`] for one never issued, and
/// [`Error::RefreshReused`] for one exchanged before: then the whole session is revoked.
pub async fn refresh(context: &Context, presented: &SecretString, origin: &Origin) -> Result<Session> {
    let hash = token::hash_refresh_token(presented);
    let now = context.clock.now();
    let mut conn = context.db.conn().await?;
    // Revoking a family must be committed although the caller gets an error: so the outcome is a value in here.
    conn.transaction(async move |conn| -> Result<Result<Session>> {
        let Some(old) = refresh_tokens::lock_by_hash(conn, &hash).await? else {
            return Ok(Err(Error::Unauthenticated));
        };
        if old.revoked_at.is_some() {
            return Ok(Err(Error::TokenRevoked));
        }
        if let Some(rotated_at) = old.rotated_at {
            if now - rotated_at <= REUSE_GRACE {
                return Ok(Err(Error::TokenRevoked));
            }
            refresh_tokens::revoke_family(conn, old.family, now).await?;
            let event = Event {
                actor: Some(old.user_id),
                action: "session.refresh_reused",
                target_type: "session",
                target_id: old.family.to_string(),
                origin,
                detail: serde_json::json!({}),
            };
            audit::record(conn, event).await?;
            return Ok(Err(Error::RefreshReused));
        }
        if old.expires_at <= now {
            return Ok(Err(Error::TokenExpired));
        }
        let Some(user) = users::hold(conn, old.user_id).await?.filter(|user| user.disabled_at.is_none())
        else {
            return Ok(Err(Error::TokenRevoked));
        };
        if !refresh_tokens::rotate(conn, old.id, now).await? {
            return Ok(Err(Error::TokenRevoked));
        }
        issue(context, conn, user, old.family, origin, now).await.map(Ok)
    })
    .await?
}

async fn issue(
    context: &Context,
    conn: &mut AsyncPgConnection,
    user: User,
    session: SessionId,
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<Session> {
    let refresh_token = token::new_refresh_token()?;
    let lifetime = Duration::from_std(context.config.auth.refresh_token_ttl).unwrap_or(Duration::days(30));
    let row = NewRefreshToken {
        id: RefreshTokenId::new(),
        user_id: user.id,
        family: session,
        token_hash: &token::hash_refresh_token(&refresh_token),
        user_agent: &origin.user_agent,
        ip: &origin.ip,
        created_at: now,
        expires_at: now + lifetime,
    };
    refresh_tokens::insert(conn, &row).await?;
    let (access_token, _) = context.tokens.issue(user.id, session, now)?;
    Ok(Session { access_token, expires_in: context.tokens.lifetime().num_seconds(), refresh_token, user })
}

/// Checks an access token: signature, expiry, revocation, and that the account may still be used. One round
/// trip to the database.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::TokenExpired`], [`Error::TokenRevoked`].
pub async fn authenticate(context: &Context, access_token: &str) -> Result<Caller> {
    let claims = context.tokens.check(access_token, context.clock.now())?;
    let mut conn = context.db.conn().await?;
    let found = revoked_tokens::user_and_revocation(&mut conn, claims.sub, claims.jti, claims.sid).await?;
    match found {
        None => Err(Error::Unauthenticated),
        Some((_, true)) => Err(Error::TokenRevoked),
        Some((user, false)) if user.disabled_at.is_some() => Err(Error::TokenRevoked),
        Some((user, false)) => Ok(Caller { user, claims }),
    }
}

/// Ends the caller's session: its refresh tokens and this access token.
///
/// # Errors
/// Whatever the database meets.
pub async fn logout(context: &Context, caller: &Caller, origin: &Origin) -> Result<()> {
    let now = context.clock.now();
    let claims = caller.claims.clone();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        refresh_tokens::revoke_family(conn, claims.sid, now).await?;
        revoked_tokens::insert(conn, claims.jti, claims.sub, claims.expires_at()).await?;
        let event = Event {
            actor: Some(claims.sub),
            action: "session.logout",
            target_type: "session",
            target_id: claims.sid.to_string(),
            origin,
            detail: serde_json::json!({}),
        };
        audit::record(conn, event).await
    })
    .await
}
