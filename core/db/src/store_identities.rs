//! The `store_identities` table: the recorded identity of each store.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::store_identities;
use crate::error::Result;

/// The recorded identity of a store.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = store_identities, check_for_backend(Pg))]
pub struct Recorded {
    /// Store.
    pub store: String,
    /// The UUID in the marker of its bucket.
    pub identity: Uuid,
    /// When the marker was first seen in the bucket; until then it may still have to be written.
    pub marked_at: Option<DateTime<Utc>>,
}

/// Where a store is, for information.
#[derive(Debug, Clone, Copy)]
pub struct Place<'p> {
    /// Endpoint.
    pub endpoint: &'p str,
    /// Bucket.
    pub bucket: &'p str,
}

/// Every recorded identity, also of stores that are no longer configured. A small number.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Recorded>> {
    Ok(store_identities::table
        .select(Recorded::as_select())
        .order(store_identities::store)
        .load(conn)
        .await?)
}

/// Records the identity of a store, unless the store has one or another store has this one: read [`all`] afterwards.
pub async fn record(
    conn: &mut AsyncPgConnection,
    store: &str,
    identity: Uuid,
    place: Place<'_>,
) -> Result<()> {
    diesel::insert_into(store_identities::table)
        .values((
            store_identities::store.eq(store),
            store_identities::identity.eq(identity),
            store_identities::endpoint.eq(place.endpoint),
            store_identities::bucket.eq(place.bucket),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// Records that the marker of a store was seen.
pub async fn mark(conn: &mut AsyncPgConnection, store: &str, identity: Uuid) -> Result<()> {
    let row = store_identities::table.find(store).filter(store_identities::identity.eq(identity));
    diesel::update(row.filter(store_identities::marked_at.is_null()))
        .set(store_identities::marked_at.eq(diesel::dsl::now))
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes this identity of a store if its marker was never seen.
pub async fn forget_unmarked(conn: &mut AsyncPgConnection, store: &str, identity: Uuid) -> Result<()> {
    let row = store_identities::table.find(store).filter(store_identities::identity.eq(identity));
    diesel::delete(row.filter(store_identities::marked_at.is_null())).execute(conn).await?;
    Ok(())
}

/// Deletes the identity of a store.
pub async fn forget(conn: &mut AsyncPgConnection, store: &str) -> Result<()> {
    diesel::delete(store_identities::table.find(store)).execute(conn).await?;
    Ok(())
}
