//! Creating and changing accounts.

use diesel_async::{AsyncConnection, AsyncPgConnection};
use secrecy::SecretString;

use super::Accounts;
use super::administration;
use super::guard::{self, Reason};
use super::{network, password, session_list};
use crate::context::Context;
use crate::db::audit::{self, Channel, Origin};
use crate::db::enums::UserRole;
use crate::db::users::{self, NewUser, User, UserChange};
use crate::db::{folders, sign_in_guard};
use crate::error::{Error, FieldError, Noun, Result};
use crate::ids::{SessionId, UserId};

/// Maximum length of a display name, in characters.
const MAX_NAME_LENGTH: usize = 200;

/// The fields of a new account.
#[derive(Debug)]
pub struct NewAccount {
    /// Email address; trimmed here.
    pub email: String,
    /// Chosen password.
    pub password: SecretString,
    /// Display name.
    pub name: Option<String>,
    /// Role.
    pub role: UserRole,
}

/// Creates an account with its root folder. `actor` is an administrator; without one, a request over HTTP is a sign-up.
///
/// # Errors
/// [`Error::Validation`] with every invalid field, [`Error::EmailTaken`]; [`Error::Forbidden`] if the actor is no
/// longer an administrator.
pub async fn create(
    accounts: &Accounts,
    new: NewAccount,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<User> {
    create_with_quota(accounts, new, None, actor, origin).await
}

/// Creates an account with a storage quota in bytes; `None`: no limit.
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
        administration::lock_admin(conn, actor).await?;
        let row = NewUser {
            id: UserId::new(),
            email: &email,
            name: &name,
            password_hash: &hash,
            role: new.role,
            quota_bytes: quota,
        };
        insert(conn, &row, actor, origin).await
    })
    .await
}

/// Creates an account with its root folder, within a transaction. The parameters have been validated.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    row: &NewUser<'_>,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<User> {
    let user = users::insert(conn, row).await?;
    folders::insert_root(conn, row.id).await?;
    let by_oneself = actor.is_none() && origin.channel == Channel::Api;
    let (actor, action) = if by_oneself { (Some(row.id), "user.signup") } else { (actor, "user.create") };
    let detail = serde_json::json!({ "role": row.role, "quota_bytes": row.quota_bytes });
    audit::record(conn, origin, actor, action, ("user", row.id), detail).await?;
    Ok(user)
}

/// Checks an email address.
///
/// # Errors
/// The validation error.
pub(super) fn check_email(email: &str) -> Result<(), FieldError> {
    if let Err(error) = garde::rules::email::parse_email(email) {
        return Err(FieldError::new("email", format!("is not an email address: {error}")));
    }
    if email.len() > 254 {
        return Err(FieldError::new("email", "must have at most 254 bytes"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), FieldError> {
    if name.chars().count() > MAX_NAME_LENGTH || name.chars().any(char::is_control) {
        return Err(FieldError::new(
            "name",
            format!("must have at most {MAX_NAME_LENGTH} characters, none of them a control character"),
        ));
    }
    Ok(())
}

/// Truncates a name from an identity provider to the maximum length.
pub(super) fn truncated_name(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME_LENGTH).collect()
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

/// Changes the display name.
///
/// # Errors
/// [`Error::Validation`], [`Error::NotFound`].
pub async fn rename(context: &Context, user: UserId, name: &str) -> Result<User> {
    let name = name.trim();
    check_name(name).map_err(|error| Error::Validation(vec![error]))?;
    let change = UserChange { name: Some(name), ..UserChange::default() };
    users::change(&mut *context.db.conn().await?, user, &change).await?.ok_or(Error::NotFound(Noun::User))
}

/// Finds an account by its email address.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn by_email(context: &Context, email: &str) -> Result<User> {
    users::find_by_email(&mut *context.db.conn().await?, email).await?.ok_or(Error::NotFound(Noun::User))
}

/// Sets a new password and ends all sessions of the account.
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
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        let change = UserChange { password_hash: Some(&hash), ..UserChange::default() };
        users::change(conn, user, &change).await?.ok_or(Error::NotFound(Noun::User))?;
        session_list::end_all_in(conn, user, None, now).await?;
        // The failure counters are reset: guesses of the old password are irrelevant, and the holder of the new one
        // must not be locked out.
        sign_in_guard::delete_all_failures(conn, user).await?;
        audit::record(conn, origin, None, "user.password", ("user", user), serde_json::json!({})).await
    })
    .await
}

/// Changes the caller's own password and ends all sessions except `keep`.
///
/// # Errors
/// [`Error::Validation`]; [`Error::InvalidCredentials`] if `current` is not the password, and after too many failures
/// [`Error::RateLimited`]; [`Error::Conflict`] if the password was changed concurrently.
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
    // Guesses within a stolen session are limited in the same way as sign-ins.
    let attempt = {
        let mut conn = context.db.conn().await?;
        guard::check_allowed(context, &mut conn, &user.email, origin, context.clock.now()).await?
    };
    if !accounts.passwords.verify(attempt.network(), current, Some(user.password_hash.clone())).await? {
        let (account, now) = (Some(user.id), context.clock.now());
        return Err(
            guard::record_failure(accounts, &attempt, account, Reason::WrongPassword, origin, now).await?
        );
    }
    let hash = accounts.passwords.hash(attempt.network(), new).await?;
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        if !users::change_password(conn, user.id, &user.password_hash, &hash).await? {
            return Err(Error::Conflict("The password was changed concurrently. Sign in again.".to_owned()));
        }
        guard::record_success(context, conn, &attempt, user.id, now).await?;
        let ended = session_list::end_all_in(conn, user.id, Some(keep), now).await?;
        let detail = serde_json::json!({ "sessions_ended": ended });
        audit::record(conn, origin, Some(user.id), "user.password", ("user", user.id), detail).await
    })
    .await
}
