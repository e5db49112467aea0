//! Whose account it is: by issuer and subject; else, where the configuration allows it and the provider vouches for the
//! email address, by that address, or a new one.

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
use crate::db::audit::{self, Event, Origin};
use crate::db::enums::UserRole;
use crate::db::identities::{self, NewIdentity};
use crate::db::personal_tokens;
use crate::db::users::{self, NewUser, User};
use crate::error::{Error, Result};
use crate::ids::UserId;

/// Starts a session of the account of this person.
pub(super) async fn sign_in(
    accounts: &Accounts,
    provider: &str,
    config: &OidcConfig,
    claims: &Claims,
    origin: &Origin,
) -> Result<Session> {
    let context = &accounts.context;
    let signer = accounts.tokens.signer(&context.db, context.clock.now()).await?;
    let known = {
        let mut conn = context.db.conn().await?;
        identities::find(&mut conn, &claims.iss, &claims.sub).await?.is_some()
    };
    // Nobody's password: who came this way signs in this way, until an administrator sets one.
    let hash = if known {
        None
    } else {
        let network = network::name_of(&origin.ip);
        Some(accounts.passwords.hash(&network, token::new_refresh_token()?).await?)
    };
    let mut conn = context.db.conn().await?;
    // A refusal is a value in here: it is made before anything is written.
    let outcome = conn
        .transaction(async move |conn| -> Result<Outcome<Session>> {
            let linked = identities::find(conn, &claims.iss, &claims.sub).await?;
            let user = if let Some(id) = linked {
                let user = users::lock(conn, id).await?.ok_or(Error::NotFound("user"))?;
                if user.disabled_at.is_some() {
                    return Ok(Err(Refusal::disabled(&user)));
                }
                let email = claims.email.as_deref().unwrap_or_default();
                identities::touch(conn, &claims.iss, &claims.sub, email, context.clock.now()).await?;
                user
            } else {
                // None when the account was removed just now.
                let hash = hash.as_deref().ok_or(Error::NotFound("user"))?;
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
        guard::turned_away(accounts, refusal.account, refusal.reason, provider, origin);
        Error::SignInRefused(refusal.said)
    })
}

/// What became of somebody whom the provider knows.
type Outcome<T> = std::result::Result<T, Refusal>;

/// Why somebody is not let in.
struct Refusal {
    /// The account that it is about, if there is one.
    account: Option<UserId>,
    reason: Reason,
    /// What they are told.
    said: &'static str,
}

impl Refusal {
    fn new(account: Option<UserId>, reason: Reason, said: &'static str) -> Self {
        Self { account, reason, said }
    }

    fn disabled(user: &User) -> Self {
        Self::new(Some(user.id), Reason::Disabled, "This account may not be used at the moment.")
    }
}

/// Finds or makes the account of somebody who signs in this way for the first time.
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
        let said = "The provider does not vouch for your email address.";
        return Ok(Err(Refusal::new(None, Reason::EmailNotVerified, said)));
    };
    let now = context.clock.now();
    let mut taken = json!({});
    let user = match users::find_by_email(conn, email).await? {
        Some(user) if config.link_by_email => {
            let user = users::lock(conn, user.id).await?.ok_or(Error::NotFound("user"))?;
            if user.disabled_at.is_some() {
                return Ok(Err(Refusal::disabled(&user)));
            }
            taken = take_from_others(context, conn, user.id, hash, now).await?;
            user
        }
        Some(user) => {
            let said = "An account with your email address exists, and this provider may not sign in to it.";
            return Ok(Err(Refusal::new(Some(user.id), Reason::NotLinked, said)));
        }
        None if config.signup => {
            let name = claims.name.as_deref().map(account::fitting_name).unwrap_or_default();
            account::check_email(email).map_err(|error| Error::Validation(vec![error]))?;
            let row =
                NewUser { id: UserId::new(), email, name: &name, password_hash: hash, role: UserRole::User };
            account::insert(conn, &row, None, None, origin).await?
        }
        None => {
            let said = "There is no account for you. Ask an administrator for one.";
            return Ok(Err(Refusal::new(None, Reason::UnknownAccount, said)));
        }
    };
    let identity = NewIdentity {
        issuer: &claims.iss,
        subject: &claims.sub,
        user_id: user.id,
        email,
        created_at: now,
        last_used_at: now,
    };
    if !identities::insert(conn, &identity).await? {
        return Err(Error::Conflict(
            "Somebody signs in like this at this very moment. Begin again.".to_owned(),
        ));
    }
    let mut detail = json!({ "provider": provider, "issuer": claims.iss, "subject": claims.sub });
    if let (Some(detail), Some(taken)) = (detail.as_object_mut(), taken.as_object_mut()) {
        detail.append(taken);
    }
    let event = Event {
        actor: Some(user.id),
        action: "identity.link",
        target_type: "user",
        target_id: user.id.to_string(),
        origin,
        detail,
    };
    audit::record(conn, event).await?;
    Ok(Ok(user))
}

/// Makes an account that was there before its owner's alone. Nobody checked who signed up with the address: it may have
/// been somebody who waits for its owner to come. So whatever led in ends: password, sessions, personal access tokens, and
/// identities of providers that could not have linked it by themselves. Answers what, for the audit log.
async fn take_from_others(
    context: &Context,
    conn: &mut AsyncPgConnection,
    user: UserId,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<serde_json::Value> {
    users::set_password(conn, user, hash).await?;
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
