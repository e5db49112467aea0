//! The `identities` table: who of a provider elsewhere is who here.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::identities;
use crate::error::Result;
use crate::ids::UserId;

/// A person as a provider knows them, and their account.
#[derive(Debug, Insertable)]
#[diesel(table_name = identities)]
pub struct NewIdentity<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// What the provider calls the person, for ever.
    pub subject: &'a str,
    /// The account.
    pub user_id: UserId,
    /// Address as the provider says.
    pub email: &'a str,
    /// When the two were linked.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: DateTime<Utc>,
}

/// A link, as it is stored.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = identities, check_for_backend(diesel::pg::Pg))]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// What the provider calls the person, for ever.
    pub subject: String,
    /// Address as the provider last said.
    pub email: String,
    /// When the two were linked.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: DateTime<Utc>,
}

/// The account of a person.
pub async fn find(conn: &mut AsyncPgConnection, issuer: &str, subject: &str) -> Result<Option<UserId>> {
    Ok(identities::table.find((issuer, subject)).select(identities::user_id).first(conn).await.optional()?)
}

/// Links a person to an account. Answers whether they were not linked before.
pub async fn insert(conn: &mut AsyncPgConnection, identity: &NewIdentity<'_>) -> Result<bool> {
    let inserted = diesel::insert_into(identities::table)
        .values(identity)
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(inserted == 1)
}

/// Notes that a person signed in, with the address that the provider says now.
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

/// Who is linked to an account, those first who were linked first. A handful.
pub async fn of_user(conn: &mut AsyncPgConnection, user: UserId) -> Result<Vec<Identity>> {
    Ok(identities::table
        .filter(identities::user_id.eq(user))
        .select(Identity::as_select())
        .order((identities::created_at, identities::issuer, identities::subject))
        .load(conn)
        .await?)
}

/// Takes the link of a person to an account away. Answers whether there was one.
pub async fn remove(conn: &mut AsyncPgConnection, user: UserId, issuer: &str, subject: &str) -> Result<bool> {
    let link = identities::table.find((issuer, subject)).filter(identities::user_id.eq(user));
    Ok(diesel::delete(link).execute(conn).await? == 1)
}
