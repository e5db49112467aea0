//! Queries of reconcile: replicas in the order of a store's listing, and the state of one key.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Flag;
use super::transitions::{BEGIN_SURPLUS_EVICTION, UPDATE_PRESENT};
use crate::encryption::encrypted_size;
use crate::enums::{ObjectState, ReplicaState};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::prepared::Prepared;
use crate::schema::sql_types;
use crate::statement::Values;
use crate::unsigned;

/// An object and its replica in one store.
#[derive(Debug, Clone, QueryableByName)]
pub struct Known {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Size in bytes; `None` while uploading.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub size: Option<i64>,
    /// State of the replica; `None` if there is no row for this store.
    #[diesel(sql_type = Nullable<sql_types::ReplicaState>)]
    pub state: Option<ReplicaState>,
    /// When the replica was verified.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub verified_at: Option<DateTime<Utc>>,
    /// Whether the replica is encrypted.
    #[diesel(sql_type = Bool)]
    pub encrypted: bool,
    /// Whether the replica is suspect: see [`super::Replica::is_suspect`].
    #[diesel(sql_type = Bool)]
    pub suspect: bool,
    /// Whether another store has a present copy; only determined for a replica that is queued, failed or lost.
    #[diesel(sql_type = Bool)]
    pub elsewhere: bool,
}

impl Known {
    /// Whether its store should contain the object: it is present, or suspect.
    pub fn is_expected(&self) -> bool {
        self.state == Some(ReplicaState::Present) || self.suspect
    }

    /// Size in the store; `None` while uploading.
    pub fn stored_size(&self) -> Option<u64> {
        let size = unsigned(self.size?);
        Some(if self.encrypted { encrypted_size(size) } else { size })
    }
}

/// The next 1,000 objects after the key `after`, in byte order of the keys, with their replicas in `store`.
pub async fn known_after(conn: &mut AsyncPgConnection, store: &str, after: &str) -> Result<Vec<Known>> {
    let query = diesel::sql_query(
        "SELECT o.id AS object_id, o.key, o.size, r.state, r.verified_at, r.key_id IS NOT NULL AS encrypted, \
                coalesce(r.state = 'lost' AND r.suspect_since IS NOT NULL, false) AS suspect, \
                CASE WHEN r.state IN ('queued', 'failed', 'lost') THEN EXISTS ( \
                    SELECT 1 FROM replicas s WHERE s.object_id = o.id AND s.store <> $1 AND s.state = 'present' OFFSET 0) \
                ELSE true END AS elsewhere \
         FROM objects o LEFT JOIN replicas r ON r.object_id = o.id AND r.store = $1 \
         WHERE o.key COLLATE \"C\" > $2 ORDER BY o.key COLLATE \"C\" LIMIT 1000",
    )
    .bind::<Text, _>(store)
    .bind::<Text, _>(after);
    Ok(Prepared(query).load(conn).await?)
}

/// The current state of a key.
#[derive(Debug, Clone, QueryableByName)]
pub struct Facts {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// State of the object.
    #[diesel(sql_type = sql_types::ObjectState)]
    pub object_state: ObjectState,
    /// State of the replica in the examined store, if it has one.
    #[diesel(sql_type = Nullable<sql_types::ReplicaState>)]
    pub state: Option<ReplicaState>,
    /// When that replica was verified.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub verified_at: Option<DateTime<Utc>>,
    /// Verified copies in other stores.
    #[diesel(sql_type = BigInt)]
    pub elsewhere: i64,
    /// Whether that replica is suspect: see [`super::Replica::is_suspect`].
    #[diesel(sql_type = Bool)]
    pub suspect: bool,
}

/// The state of `key` in `store`; `None` if no object has this key.
pub async fn facts(conn: &mut AsyncPgConnection, key: &str, store: &str) -> Result<Option<Facts>> {
    Ok(diesel::sql_query(
        "SELECT o.id AS object_id, o.state AS object_state, r.state, r.verified_at, \
                (SELECT count(*) FROM replicas s WHERE s.object_id = o.id AND s.store <> $2 AND s.state = 'present') \
                    AS elsewhere, \
                coalesce(r.state = 'lost' AND r.suspect_since IS NOT NULL, false) AS suspect \
         FROM objects o LEFT JOIN replicas r ON r.object_id = o.id AND r.store = $2 WHERE o.key = $1",
    )
    .bind::<Text, _>(key)
    .bind::<Text, _>(store)
    .get_result(conn)
    .await
    .optional()?)
}

/// Marks an object that was found in a store without a row as `evicting`, so that it is not copied there while it is
/// being deleted. Returns `false`, and changes nothing, if it has a row by now or no other copy that is verified; the
/// other copy is checked under its lock.
pub async fn mark_surplus(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    worker: WorkerId,
    token: LeaseToken,
    lease: Duration,
) -> Result<bool> {
    let mut values = Values::default();
    let (object, store) = (values.id(object), values.text(store));
    let (token, worker) = (values.id(token), values.id(worker));
    let select = format!(
        "SELECT {object}, {store}, 'surplus'::evict_reason, 'reconcile', {token}, {worker}, \
                now() + make_interval(secs => {}) FROM other",
        values.seconds(lease)
    );
    let columns = "object_id, store, evict_reason, rule, lease_token, lease_worker, lease_until";
    let sql = format!(
        "WITH other AS ( \
             SELECT 1 FROM replicas c JOIN objects o ON o.id = c.object_id \
             WHERE c.object_id = {object} AND c.store <> {store} AND c.state = 'present' AND c.verified_at IS NOT NULL \
               AND o.state = 'stored' LIMIT 1 FOR UPDATE OF c \
         ) {}",
        BEGIN_SURPLUS_EVICTION.insert(columns, &select, "ON CONFLICT DO NOTHING")
    );
    Ok(values.query(&sql).execute(conn).await? == 1)
}

/// Whether a multipart upload of `key` in `store` belongs to a copy or an upload in progress.
pub async fn knows_upload(
    conn: &mut AsyncPgConnection,
    key: &str,
    store: &str,
    upload: &str,
) -> Result<bool> {
    let row: Flag = diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM objects o LEFT JOIN replicas r ON r.object_id = o.id AND r.store = $2 \
         WHERE o.key = $1 AND (r.upload_id = $3 OR (o.upload_store = $2 AND o.upload_id = $3))) AS yes",
    )
    .bind::<Text, _>(key)
    .bind::<Text, _>(store)
    .bind::<Text, _>(upload)
    .get_result(conn)
    .await?;
    Ok(row.yes)
}

/// A local copy is not evictable, and its object is planned again, if no cloud store has a row for it: the store was
/// drained, or the row was deleted by hand. Reads every local copy of a synced file, so it belongs in passes that take
/// long anyway. Returns the number of copies.
pub async fn correct_evictable(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    clouds: &[&str],
) -> Result<usize> {
    let mut values = Values::default();
    let which = format!(
        "r.store = ANY({}) AND r.spare_since IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY({}))",
        values.texts(locals),
        values.texts(clouds)
    );
    Ok(values.query(&UPDATE_PRESENT.update("spare_since = NULL", "", &which)).execute(conn).await?)
}

/// Whether the database has any object. An empty catalogue must not be used to judge the contents of the stores.
pub async fn any_known(conn: &mut AsyncPgConnection) -> Result<bool> {
    use crate::schema::objects;
    Ok(diesel::select(diesel::dsl::exists(objects::table.select(objects::id))).get_result(conn).await?)
}

/// How long ago the newest object was recorded, by the clock of the database; `None` if there are no objects. Ids are
/// ordered by time.
pub async fn newest_age(conn: &mut AsyncPgConnection) -> Result<Option<Duration>> {
    #[derive(QueryableByName)]
    struct Age {
        #[diesel(sql_type = Double)]
        seconds: f64,
    }
    let row: Option<Age> = diesel::sql_query(
        "SELECT greatest(extract(epoch FROM now() - o.created_at), 0)::double precision AS seconds FROM objects o \
         ORDER BY o.id DESC LIMIT 1",
    )
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|age| Duration::try_from_secs_f64(age.seconds).unwrap_or_default()))
}
