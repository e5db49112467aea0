//! The `users` table.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::enums::UserRole;
use super::schema::users;
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;

/// A user account.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub struct User {
    /// Id.
    pub id: UserId,
    /// Email address as given at sign-up.
    pub email: String,
    /// Display name.
    pub name: String,
    /// bcrypt hash.
    pub password_hash: String,
    /// Role.
    pub role: UserRole,
    /// Set while the account is disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Storage quota in bytes; null: no limit.
    pub quota_bytes: Option<i64>,
    /// Total bytes of all versions of all files.
    pub used_bytes: i64,
    /// When the account was created.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

/// A new account.
#[derive(Debug, Insertable)]
#[diesel(table_name = users)]
pub struct NewUser<'a> {
    /// Id.
    pub id: UserId,
    /// Email address, trimmed.
    pub email: &'a str,
    /// Display name.
    pub name: &'a str,
    /// bcrypt hash.
    pub password_hash: &'a str,
    /// Role.
    pub role: UserRole,
    /// Storage quota in bytes; `None`: no limit.
    pub quota_bytes: Option<i64>,
}

diesel::define_sql_function! {
    /// Lower case, as computed by the unique index on email addresses.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// Inserts an account.
///
/// # Errors
/// [`Error::EmailTaken`] if the email address is in use, case-insensitively.
pub async fn insert(conn: &mut AsyncPgConnection, user: &NewUser<'_>) -> Result<User> {
    use diesel::result::{DatabaseErrorKind, Error as Diesel};
    diesel::insert_into(users::table)
        .values(user)
        .returning(User::as_returning())
        .get_result(conn)
        .await
        .map_err(|error| match error {
            Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, _) => Error::EmailTaken,
            other => other.into(),
        })
}

/// Finds an account by id.
pub async fn find(conn: &mut AsyncPgConnection, id: UserId) -> Result<Option<User>> {
    Ok(users::table.find(id).select(User::as_select()).first(conn).await.optional()?)
}

/// Finds an account and locks its row: decisions based on it hold until the end of the transaction.
pub async fn lock(conn: &mut AsyncPgConnection, id: UserId) -> Result<Option<User>> {
    Ok(users::table.find(id).select(User::as_select()).for_no_key_update().first(conn).await.optional()?)
}

/// Finds an account by email address, case-insensitively.
pub async fn find_by_email(conn: &mut AsyncPgConnection, email: &str) -> Result<Option<User>> {
    Ok(users::table
        .filter(lower(users::email).eq(lower(email.trim())))
        .select(User::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// Filters for accounts.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of the email address or the name, case-insensitive.
    pub text: Option<String>,
    /// Role.
    pub role: Option<UserRole>,
    /// Whether they are disabled.
    pub disabled: Option<bool>,
    /// Only accounts created after this one.
    pub after: Option<UserId>,
}

/// Accounts in the order of their creation, at most `limit`.
pub async fn search(conn: &mut AsyncPgConnection, filter: &UserFilter, limit: i64) -> Result<Vec<User>> {
    let mut query = users::table.select(User::as_select()).order(users::id).limit(limit).into_boxed();
    if let Some(text) = &filter.text {
        let pattern = format!("%{}%", super::files::escape_like(text));
        query = query.filter(users::email.ilike(pattern.clone()).or(users::name.ilike(pattern)));
    }
    if let Some(role) = filter.role {
        query = query.filter(users::role.eq(role));
    }
    query = match filter.disabled {
        Some(true) => query.filter(users::disabled_at.is_not_null()),
        Some(false) => query.filter(users::disabled_at.is_null()),
        None => query,
    };
    if let Some(after) = filter.after {
        query = query.filter(users::id.gt(after));
    }
    Ok(query.load(conn).await?)
}

/// The active administrators, locked until the end of the transaction; always in the same order, to prevent deadlocks.
pub async fn lock_acting_admins(conn: &mut AsyncPgConnection) -> Result<Vec<UserId>> {
    Ok(users::table
        .filter(users::role.eq(UserRole::Admin))
        .filter(users::disabled_at.is_null())
        .order(users::id)
        .select(users::id)
        .for_no_key_update()
        .load(conn)
        .await?)
}

/// The changes of an account. `None` leaves a value unchanged.
#[derive(Debug, Default, AsChangeset)]
#[diesel(table_name = users)]
pub struct UserChange<'a> {
    /// Display name.
    pub name: Option<&'a str>,
    /// bcrypt hash.
    pub password_hash: Option<&'a str>,
    /// Role.
    pub role: Option<UserRole>,
    /// When it is disabled; `Some(None)` enables it.
    pub disabled_at: Option<Option<DateTime<Utc>>>,
    /// Storage quota in bytes; `Some(None)`: no limit.
    pub quota_bytes: Option<Option<i64>>,
}

/// Changes an account. Returns the new row, or `None` if there is no such account.
pub async fn change(
    conn: &mut AsyncPgConnection,
    id: UserId,
    change: &UserChange<'_>,
) -> Result<Option<User>> {
    Ok(diesel::update(users::table.find(id))
        .set((change, users::updated_at.eq(diesel::dsl::now)))
        .returning(User::as_returning())
        .get_result(conn)
        .await
        .optional()?)
}

/// Replaces the password hash `old`. Returns whether it was still the current one.
pub async fn change_password(conn: &mut AsyncPgConnection, id: UserId, old: &str, new: &str) -> Result<bool> {
    let changed = diesel::update(users::table.find(id).filter(users::password_hash.eq(old)))
        .set((users::password_hash.eq(new), users::updated_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

/// How many bytes the account can still store; `None`: no limit.
pub async fn room(conn: &mut AsyncPgConnection, id: UserId) -> Result<Option<Room>> {
    let found: Option<(Option<i64>, i64)> =
        users::table.find(id).select((users::quota_bytes, users::used_bytes)).first(conn).await.optional()?;
    Ok(found.and_then(|(quota, used)| quota.map(|quota| Room { quota, used })))
}

/// Usage of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The quota in bytes.
    pub quota: i64,
    /// Bytes used.
    pub used: i64,
}

impl Room {
    /// Bytes left.
    pub fn left(self) -> u64 {
        u64::try_from(self.quota.saturating_sub(self.used)).unwrap_or(0)
    }
}

/// Charges `bytes` to the account, within its quota, in one statement, so that concurrent uploads cannot exceed it
/// together. Releasing bytes always succeeds, even above a lowered quota.
///
/// # Errors
/// [`Error::QuotaExceeded`].
pub async fn book_bytes(conn: &mut AsyncPgConnection, id: UserId, bytes: i64) -> Result<()> {
    let within =
        users::quota_bytes.is_null().or((users::used_bytes + bytes).nullable().le(users::quota_bytes));
    let set = users::used_bytes.eq(users::used_bytes + bytes);
    let booked = if bytes > 0 {
        diesel::update(users::table.find(id).filter(within)).set(set).execute(conn).await?
    } else {
        diesel::update(users::table.find(id)).set(set).execute(conn).await?
    };
    if booked == 1 {
        return Ok(());
    }
    let user = find(conn, id).await?.ok_or(Error::NotFound(Noun::User))?;
    Err(Error::QuotaExceeded { quota: user.quota_bytes.unwrap_or(i64::MAX), used: user.used_bytes })
}
