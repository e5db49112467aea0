//! Resolves an identity to an account: by issuer and subject; otherwise, if the configuration allows it and the
//! provider has verified the email address, by that address, or with a new account.

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use serde_json::json;

use super::super::Accounts;
use super::super::guard::{self, Reason};
use super::super::session::{self, Session};
use super::super::{account, network, session_list, token};
use super::id_token::Claims;
use crate::config::OidcConfig;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::UserRole;
use crate::db::users::{self, NewUser, User, UserChange};
use crate::db::{identities, personal_tokens};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// Starts a session for the account of this identity.
pub(super) async fn sign_in(
    accounts: &Accounts,
    provider: &str,
    config: &OidcConfig,
    claims: &Claims,
    origin: &Origin,
) -> Result<Session> {
    let context = &accounts.context;
    let signer = accounts.tokens.signer(&context.db, context.clock.now()).await?;
    let known = identities::find(&mut *context.db.conn().await?, &claims.iss, &claims.sub).await?.is_some();
    // No usable password: the account signs in through the provider until an administrator sets a password.
    let hash = if known {
        None
    } else {
        let network = network::name_of(&origin.ip);
        Some(accounts.passwords.hash(&network, token::new_refresh_token()?).await?)
    };
    let mut conn = context.db.conn().await?;
    // A rejection is a value here: it is returned before anything is written.
    let outcome = conn
        .transaction(async move |conn| -> Result<Outcome<Session>> {
            let linked = identities::find(conn, &claims.iss, &claims.sub).await?;
            let user = if let Some(id) = linked {
                let user = users::lock(conn, id).await?.ok_or(Error::NotFound(Noun::User))?;
                if user.disabled_at.is_some() {
                    return Ok(Err(Refusal::disabled(&user)));
                }
                let email = claims.email.as_deref().unwrap_or_default();
                identities::touch(conn, &claims.iss, &claims.sub, email, context.clock.now()).await?;
                user
            } else {
                // `None` if the account has just been removed.
                let hash = hash.as_deref().ok_or(Error::NotFound(Noun::User))?;
                match link(context, conn, provider, config, claims, hash, origin).await? {
                    Ok(user) => user,
                    Err(refusal) => return Ok(Err(refusal)),
                }
            };
            let detail = json!({ "provider": provider });
            session::start(accounts, conn, &signer, user, detail, origin).await.map(Ok)
        })
        .await?;
    outcome.map_err(|refusal| {
        guard::record_rejection(accounts, refusal.account, refusal.reason, provider, origin);
        Error::SignInRefused(refusal.said)
    })
}

type Outcome<T> = Result<T, Refusal>;

/// Why the sign-in was rejected.
struct Refusal {
    /// The affected account, if any.
    account: Option<UserId>,
    reason: Reason,
    /// The message for the user.
    said: &'static str,
}

impl Refusal {
    fn new(account: Option<UserId>, reason: Reason, said: &'static str) -> Self {
        Self { account, reason, said }
    }

    fn disabled(user: &User) -> Self {
        Self::new(Some(user.id), Reason::Disabled, "This account is disabled.")
    }
}

/// Finds or creates the account for an identity that signs in for the first time.
async fn link(
    context: &Context,
    conn: &mut AsyncPgConnection,
    provider: &str,
    config: &OidcConfig,
    claims: &Claims,
    hash: &str,
    origin: &Origin,
) -> Result<Outcome<User>> {
    let Some(email) = claims.verified_email().map(str::trim) else {
        let said = "The provider has not verified your email address.";
        return Ok(Err(Refusal::new(None, Reason::EmailNotVerified, said)));
    };
    let now = context.clock.now();
    let mut taken = json!({});
    let user = match users::find_by_email(conn, email).await? {
        Some(user) if config.link_by_email => {
            let user = users::lock(conn, user.id).await?.ok_or(Error::NotFound(Noun::User))?;
            if user.disabled_at.is_some() {
                return Ok(Err(Refusal::disabled(&user)));
            }
            taken = revoke_other_credentials(context, conn, user.id, hash, now).await?;
            user
        }
        Some(user) => {
            let said = "An account with your email address exists, but this provider may not be linked to \
                it.";
            return Ok(Err(Refusal::new(Some(user.id), Reason::NotLinked, said)));
        }
        None if config.signup => {
            let name = claims.name.as_deref().map(account::truncated_name).unwrap_or_default();
            account::check_email(email).map_err(|error| Error::Validation(vec![error]))?;
            let row = NewUser {
                id: UserId::new(),
                email,
                name: &name,
                password_hash: hash,
                role: UserRole::User,
                quota_bytes: None,
            };
            account::insert(conn, &row, None, origin).await?
        }
        None => {
            let said = "You have no account. Ask an administrator for one.";
            return Ok(Err(Refusal::new(None, Reason::UnknownAccount, said)));
        }
    };
    if !identities::insert(conn, user.id, &claims.iss, &claims.sub, email, now).await? {
        return Err(Error::Conflict(
            "Another sign-in of this identity is in progress. Start again.".to_owned(),
        ));
    }
    let mut detail = json!({ "provider": provider, "issuer": claims.iss, "subject": claims.sub });
    if let (Some(detail), Some(taken)) = (detail.as_object_mut(), taken.as_object_mut()) {
        detail.append(taken);
    }
    audit::record(conn, origin, Some(user.id), "identity.link", ("user", user.id), detail).await?;
    Ok(Ok(user))
}

/// Revokes all other credentials of an existing account that is linked. Email addresses are not verified at sign-up, so
/// the account may have been created by an attacker with its owner's address. Ends the password, sessions, personal
/// access tokens, and identities of providers that could not have linked it on their own. Returns what was revoked, for
/// the audit log.
async fn revoke_other_credentials(
    context: &Context,
    conn: &mut AsyncPgConnection,
    user: UserId,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<serde_json::Value> {
    users::change(conn, user, &UserChange { password_hash: Some(hash), ..UserChange::default() }).await?;
    let sessions = session_list::end_all_in(conn, user, None, now).await?;
    let tokens = personal_tokens::revoke_all(conn, user, now).await?;
    let believed = |issuer: &str| {
        let mut all = context.config.auth.oidc.values().filter(|provider| provider.link_by_email);
        all.any(|provider| provider.issuer == issuer.trim_end_matches('/'))
    };
    let mut unlinked = Vec::new();
    for identity in identities::of_user(conn, user).await? {
        if !believed(&identity.issuer)
            && identities::remove(conn, user, &identity.issuer, &identity.subject).await?
        {
            unlinked.push(json!({ "issuer": identity.issuer, "subject": identity.subject }));
        }
    }
    Ok(json!({
        "password_replaced": true,
        "sessions_ended": sessions,
        "tokens_revoked": tokens,
        "identities_unlinked": unlinked,
    }))
}
