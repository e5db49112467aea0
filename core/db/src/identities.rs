//! The `identities` table: identities at providers, linked to accounts.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::identities;
use crate::error::Result;
use crate::ids::UserId;

/// A link to store.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = identities, check_for_backend(diesel::pg::Pg))]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// The subject: the permanent id of the user at the provider.
    pub subject: String,
    /// Email address most recently sent by the provider.
    pub email: String,
    /// When it was linked.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: DateTime<Utc>,
}

/// The account of an identity.
pub async fn find(conn: &mut AsyncPgConnection, issuer: &str, subject: &str) -> Result<Option<UserId>> {
    Ok(identities::table.find((issuer, subject)).select(identities::user_id).first(conn).await.optional()?)
}

/// Links an identity to an account, with the email address according to the provider. Returns whether it was not linked
/// before.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    user: UserId,
    issuer: &str,
    subject: &str,
    email: &str,
    at: DateTime<Utc>,
) -> Result<bool> {
    let inserted = diesel::insert_into(identities::table)
        .values((
            identities::issuer.eq(issuer),
            identities::subject.eq(subject),
            identities::user_id.eq(user),
            identities::email.eq(email),
            identities::created_at.eq(at),
            identities::last_used_at.eq(at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// Records a sign-in, with the current email address.
pub async fn touch(
    conn: &mut AsyncPgConnection,
    issuer: &str,
    subject: &str,
    email: &str,
    at: DateTime<Utc>,
) -> Result<()> {
    diesel::update(identities::table.find((issuer, subject)))
        .set((identities::email.eq(email), identities::last_used_at.eq(at)))
        .execute(conn)
        .await?;
    Ok(())
}

/// The identities of an account, in the order of linking. A small number.
pub async fn of_user(conn: &mut AsyncPgConnection, user: UserId) -> Result<Vec<Identity>> {
    Ok(identities::table
        .filter(identities::user_id.eq(user))
        .select(Identity::as_select())
        .order((identities::created_at, identities::issuer, identities::subject))
        .load(conn)
        .await?)
}

/// Unlinks an identity from an account. Returns whether it was linked.
pub async fn remove(conn: &mut AsyncPgConnection, user: UserId, issuer: &str, subject: &str) -> Result<bool> {
    let link = identities::table.find((issuer, subject)).filter(identities::user_id.eq(user));
    Ok(diesel::delete(link).execute(conn).await? == 1)
}
