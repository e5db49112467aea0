//! What scrubbing asks: which verified copy was not read for the longest time, and what became of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::prepared::Prepared;
use crate::encryption::Seal;
use crate::error::Result;
use crate::ids::ObjectId;

/// A copy that is to be read, with what it must be.
#[derive(Debug, Clone, QueryableByName)]
pub struct ToRead {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// When it was proved last.
    #[diesel(sql_type = Timestamptz)]
    pub verified_at: DateTime<Utc>,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// SHA-256 recorded at upload.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// Name of the key that it is encrypted with, if it is.
    #[diesel(sql_type = Nullable<Text>)]
    pub key_id: Option<String>,
    /// See [`Seal`].
    #[diesel(sql_type = Nullable<Bytea>)]
    pub envelope: Option<Vec<u8>>,
}

impl ToRead {
    /// How it is encrypted; none for one that lies in its store as it is.
    pub fn seal(&self) -> Option<Seal> {
        Seal::from_columns(self.key_id.clone(), self.envelope.clone())
    }
}

#[derive(QueryableByName)]
struct Time {
    #[diesel(sql_type = Timestamptz)]
    time: DateTime<Utc>,
}

/// This long ago by the clock that sets `verified_at`.
pub async fn verified_before(conn: &mut AsyncPgConnection, age: Duration) -> Result<DateTime<Utc>> {
    let row: Time = diesel::sql_query("SELECT now() - make_interval(secs => $1) AS time")
        .bind::<Double, _>(age.as_secs_f64())
        .get_result(conn)
        .await?;
    Ok(row.time)
}

/// The next copies of `store` in the order in which they were proved, those proved before `before` and after the one
/// that `after` names by its time and object. Archived copies are left out: reading one costs a restore.
pub async fn oldest_verified(
    conn: &mut AsyncPgConnection,
    store: &str,
    before: DateTime<Utc>,
    after: (DateTime<Utc>, ObjectId),
) -> Result<Vec<ToRead>> {
    let query = diesel::sql_query(
        "SELECT r.object_id, r.store, r.verified_at, o.key, o.size, o.sha256, r.key_id, r.envelope \
         FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND r.state = 'present' AND o.state = 'stored' AND r.verified_at < $2 \
           AND coalesce(r.storage_class, '') NOT IN ('GLACIER', 'DEEP_ARCHIVE') \
           AND r.verified_at >= $3 AND (r.verified_at, r.object_id) > ($3, $4) \
         ORDER BY r.verified_at, r.object_id LIMIT 32",
    )
    .bind::<Text, _>(store)
    .bind::<Timestamptz, _>(before)
    .bind::<Timestamptz, _>(after.0)
    .bind::<SqlUuid, _>(after.1);
    Ok(Prepared(query).load(conn).await?)
}

/// Copies in `store` of objects that have no verified copy left anywhere, after `after`: their bytes may have come back.
pub async fn last_hopes(conn: &mut AsyncPgConnection, store: &str, after: ObjectId) -> Result<Vec<ToRead>> {
    Ok(diesel::sql_query(
        "SELECT DISTINCT ON (r.object_id) r.object_id, r.store, r.verified_at, o.key, o.size, o.sha256, r.key_id, r.envelope \
         FROM replicas l JOIN replicas r ON r.object_id = l.object_id AND r.store = $1 \
         JOIN objects o ON o.id = l.object_id \
         WHERE l.state = 'lost' AND l.object_id > $2 AND o.state = 'stored' \
           AND r.state IN ('lost', 'failed', 'queued') AND r.verified_at IS NOT NULL \
           AND NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = l.object_id AND s.state = 'present') \
         ORDER BY r.object_id LIMIT 32",
    )
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(after)
    .load(conn)
    .await?)
}

/// A copy was read and is right, encrypted as `seal` says. Answers whether it was still the one that was read.
pub async fn mark_verified(conn: &mut AsyncPgConnection, read: &ToRead, seal: Option<&Seal>) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE replicas SET verified_at = now(), key_id = $4, envelope = $5 \
         WHERE object_id = $1 AND store = $2 AND state = 'present' AND verified_at = $3",
    )
    .bind::<SqlUuid, _>(read.object_id)
    .bind::<Text, _>(&read.store)
    .bind::<Timestamptz, _>(read.verified_at)
    .bind::<Nullable<Text>, _>(seal.map(|seal| seal.key_id.as_str()))
    .bind::<Nullable<Bytea>, _>(seal.map(|seal| seal.envelope.as_slice()))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// A copy that was given up was read and is right. Its files' home is where their verified copy is: in one of `homes`,
/// the cloud's stores, if there is one. Answers whether the copy was still given up.
pub async fn mark_found_again(
    conn: &mut AsyncPgConnection,
    read: &ToRead,
    seal: Option<&Seal>,
    homes: &[&str],
) -> Result<bool> {
    let changed = diesel::sql_query(
        "WITH found AS ( \
             UPDATE replicas r SET state = 'present', verified_at = now(), last_error = NULL, run_id = NULL, \
                    attempts = 0, abandoned = 0, key_id = $5, envelope = $6 \
             FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' AND r.object_id = $1 AND r.store = $2 \
               AND r.state IN ('lost', 'failed', 'queued') AND r.verified_at = $3 \
             RETURNING r.object_id, r.store \
         ), homes AS ( \
             UPDATE files f SET storage_location = n.store, \
                    synced_at = CASE WHEN n.store = ANY($4) THEN now() END \
             FROM found n JOIN file_versions v ON v.object_id = n.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number \
               AND (n.store = ANY($4) OR NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = n.object_id \
                    AND s.state = 'present' AND s.store = ANY($4))) \
         ) SELECT 1 FROM found",
    )
    .bind::<SqlUuid, _>(read.object_id)
    .bind::<Text, _>(&read.store)
    .bind::<Timestamptz, _>(read.verified_at)
    .bind::<Array<Text>, _>(homes)
    .bind::<Nullable<Text>, _>(seal.map(|seal| seal.key_id.as_str()))
    .bind::<Nullable<Bytea>, _>(seal.map(|seal| seal.envelope.as_slice()))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}
