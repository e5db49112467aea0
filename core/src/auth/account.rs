//! Making and changing accounts.

use diesel_async::{AsyncConnection, AsyncPgConnection};
use secrecy::SecretString;

use super::Accounts;
use super::administration::{self, Change};
use super::guard::{self, Reason};
use super::{network, password, session_list};
use crate::context::Context;
use crate::db::audit::{self, Channel, Event, Origin};
use crate::db::enums::UserRole;
use crate::db::users::{self, NewUser, User};
use crate::db::{folders, sign_in_guard};
use crate::error::{Error, FieldError, Result};
use crate::ids::{SessionId, UserId};

/// Longest name to show, in characters.
const LONGEST_NAME: usize = 200;

/// What is needed to make an account.
#[derive(Debug)]
pub struct NewAccount {
    /// Email address; trimmed here.
    pub email: String,
    /// Chosen password.
    pub password: SecretString,
    /// Name to show.
    pub name: Option<String>,
    /// Role.
    pub role: UserRole,
}

/// Makes an account with its root folder. An `actor` is an administrator; without one it is the person's own act where it
/// comes in over HTTP.
///
/// # Errors
/// [`Error::Validation`] with every field that breaks a rule, [`Error::EmailTaken`]; [`Error::Forbidden`] when the actor
/// administers no more.
pub async fn create(
    accounts: &Accounts,
    new: NewAccount,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<User> {
    create_with_quota(accounts, new, None, actor, origin).await
}

/// Makes an account that may hold so many bytes; none: no limit.
///
/// # Errors
/// As [`create`].
pub async fn create_with_quota(
    accounts: &Accounts,
    new: NewAccount,
    quota: Option<i64>,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<User> {
    let context = &accounts.context;
    let email = new.email.trim().to_owned();
    let name = new.name.as_deref().map(str::trim).unwrap_or_default().to_owned();
    check(&email, &name, &new.password, quota)?;
    let hash = accounts.passwords.hash(&network::name_of(&origin.ip), new.password).await?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        administration::hold_admin(conn, actor).await?;
        let row =
            NewUser { id: UserId::new(), email: &email, name: &name, password_hash: &hash, role: new.role };
        insert(conn, &row, quota, actor, origin).await
    })
    .await
}

/// Makes an account with its root folder, within the transaction of an act. What is given was checked before.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    row: &NewUser<'_>,
    quota: Option<i64>,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<User> {
    let mut user = users::insert(conn, row).await?;
    if quota.is_some() {
        users::set_quota(conn, row.id, quota).await?;
        user.quota_bytes = quota;
    }
    folders::insert_root(conn, row.id).await?;
    let by_oneself = actor.is_none() && origin.channel == Channel::Api;
    let event = Event {
        actor: if by_oneself { Some(row.id) } else { actor },
        action: if by_oneself { "user.signup" } else { "user.create" },
        target_type: "user",
        target_id: row.id.to_string(),
        origin,
        detail: serde_json::json!({ "role": row.role, "quota_bytes": quota }),
    };
    audit::record(conn, event).await?;
    Ok(user)
}

/// Checks an email address.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_email(email: &str) -> std::result::Result<(), FieldError> {
    if let Err(error) = garde::rules::email::parse_email(email) {
        return Err(FieldError::new("email", format!("is not an email address: {error}")));
    }
    if email.len() > 254 {
        return Err(FieldError::new("email", "must have at most 254 bytes"));
    }
    Ok(())
}

fn check_name(name: &str) -> std::result::Result<(), FieldError> {
    if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(FieldError::new(
            "name",
            format!("must have at most {LONGEST_NAME} characters, none of them a control character"),
        ));
    }
    Ok(())
}

/// Of somebody else's word for a name as much as fits.
pub(super) fn fitting_name(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}

fn check(email: &str, name: &str, secret: &SecretString, quota: Option<i64>) -> Result<()> {
    let mut wrong = Vec::new();
    wrong.extend(check_email(email).err());
    wrong.extend(check_name(name).err());
    if let Err(error) = password::check_rules(secret, "password") {
        wrong.push(error);
    }
    if quota.is_some_and(|bytes| bytes < 0) {
        wrong.push(FieldError::new("quota_bytes", "must not be negative"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Validation(wrong)) }
}

/// Changes the name shown.
///
/// # Errors
/// [`Error::Validation`], [`Error::NotFound`].
pub async fn rename(context: &Context, user: UserId, name: &str) -> Result<User> {
    let name = name.trim();
    check_name(name).map_err(|error| Error::Validation(vec![error]))?;
    let mut conn = context.db.conn().await?;
    users::rename(&mut conn, user, name).await?.ok_or(Error::NotFound("user"))
}

/// Finds an account by its email address.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_email(context: &Context, email: &str) -> Result<User> {
    let mut conn = context.db.conn().await?;
    users::find_by_email(&mut conn, email).await?.ok_or(Error::NotFound("user"))
}

/// Sets the role of an account.
///
/// # Errors
/// As [`administration::change`].
pub async fn set_role(context: &Context, user: UserId, role: UserRole, origin: &Origin) -> Result<()> {
    administration::change(context, user, Change::role(role), None, origin).await.map(drop)
}

/// Gives an account a new password and ends its sessions.
///
/// # Errors
/// [`Error::Validation`], [`Error::NotFound`].
pub async fn set_password(
    accounts: &Accounts,
    user: UserId,
    new: SecretString,
    origin: &Origin,
) -> Result<()> {
    let context = &accounts.context;
    password::check_rules(&new, "password").map_err(|error| Error::Validation(vec![error]))?;
    let hash = accounts.passwords.hash(&network::name_of(&origin.ip), new).await?;
    let now = context.clock.now();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if !users::set_password(conn, user, &hash).await? {
            return Err(Error::NotFound("user"));
        }
        session_list::end_all_in(conn, user, None, now).await?;
        // Who guessed the old one has gained nothing; who has the new one need not wait.
        sign_in_guard::forget_all(conn, user).await?;
        let event = Event {
            actor: None,
            action: "user.password",
            target_type: "user",
            target_id: user.to_string(),
            origin,
            detail: serde_json::json!({}),
        };
        audit::record(conn, event).await
    })
    .await
}

/// Exchanges the caller's own password and ends all their sessions but `keep`.
///
/// # Errors
/// [`Error::Validation`]; [`Error::InvalidCredentials`] when `current` is not the password, and after too many of those
/// [`Error::RateLimited`]; [`Error::Conflict`] when somebody else changed it at the same time.
pub async fn change_password(
    accounts: &Accounts,
    user: &User,
    keep: SessionId,
    current: SecretString,
    new: SecretString,
    origin: &Origin,
) -> Result<()> {
    let context = &accounts.context;
    password::check_rules(&new, "new_password").map_err(|error| Error::Validation(vec![error]))?;
    // Whoever found a session open may guess here no more often than at the door.
    let attempt = {
        let mut conn = context.db.conn().await?;
        guard::look(context, &mut conn, &user.email, origin, context.clock.now()).await?
    };
    if !accounts.passwords.verify(attempt.network(), current, Some(user.password_hash.clone())).await? {
        let (account, now) = (Some(user.id), context.clock.now());
        return Err(guard::failed(accounts, &attempt, account, Reason::WrongPassword, origin, now).await?);
    }
    let hash = accounts.passwords.hash(attempt.network(), new).await?;
    let now = context.clock.now();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if !users::change_password(conn, user.id, &user.password_hash, &hash).await? {
            return Err(Error::Conflict(
                "The password was changed at this very moment. Sign in again.".to_owned(),
            ));
        }
        guard::passed(context, conn, &attempt, user.id, now).await?;
        let ended = session_list::end_all_in(conn, user.id, Some(keep), now).await?;
        let event = Event {
            actor: Some(user.id),
            action: "user.password",
            target_type: "user",
            target_id: user.id.to_string(),
            origin,
            detail: serde_json::json!({ "sessions_ended": ended }),
        };
        audit::record(conn, event).await
    })
    .await
}

/// Disables or enables an account. Disabling ends its sessions at once.
///
/// # Errors
/// As [`administration::change`].
pub async fn set_disabled(context: &Context, user: UserId, disabled: bool, origin: &Origin) -> Result<()> {
    administration::change(context, user, Change::disabled(disabled), None, origin).await.map(drop)
}
