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
