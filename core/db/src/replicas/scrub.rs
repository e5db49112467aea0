//! Queries of scrub: the verified copies in the order of their last verification, and recording the results.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Bytea, Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::predicates::has_verified;
use super::transitions::{RECOVER, VERIFY};
use crate::encryption::EncryptionEnvelope;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::prepared::Prepared;
use crate::statement::{Value, Values};

/// A copy to read, with the expected content.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::replicas)]
pub struct ToRead {
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// When it was last verified; `None` if it was found and could not be proved.
    pub verified_at: Option<DateTime<Utc>>,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// SHA-256 recorded at upload.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// Id of the encryption key, if encrypted.
    pub key_id: Option<String>,
    /// See [`EncryptionEnvelope`].
    pub envelope: Option<Vec<u8>>,
    /// Whether it is suspect: see [`super::Replica::is_suspect`].
    #[diesel(sql_type = Bool)]
    pub suspect: bool,
}

impl ToRead {
    /// Encryption envelope; `None` if unencrypted.
    pub fn encryption(&self) -> Option<EncryptionEnvelope> {
        EncryptionEnvelope::from_columns(self.key_id.clone(), self.envelope.clone())
    }
}

/// This long ago, by the clock that sets `verified_at`.
pub async fn verified_before(conn: &mut AsyncPgConnection, age: Duration) -> Result<DateTime<Utc>> {
    let then =
        sql::<Timestamptz>("now() - make_interval(secs => ").bind::<Double, _>(age.as_secs_f64()).sql(")");
    Ok(diesel::select(then).get_result(conn).await?)
}

/// The next copies of `store` in the order of their verification, those verified before `before` and after the one
/// given by time and object in `after`. Archived copies are omitted: reading one costs a restore.
pub async fn oldest_verified(
    conn: &mut AsyncPgConnection,
    store: &str,
    before: DateTime<Utc>,
    after: (DateTime<Utc>, ObjectId),
) -> Result<Vec<ToRead>> {
    let query = diesel::sql_query(
        "SELECT r.object_id, r.store, r.verified_at, o.key, o.size, o.sha256, r.key_id, r.envelope, \
                false AS suspect \
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

/// The next copies in `store` that were found and could not be proved, after `after`. Archived copies are omitted.
pub async fn unverified(conn: &mut AsyncPgConnection, store: &str, after: ObjectId) -> Result<Vec<ToRead>> {
    Ok(diesel::sql_query(
        "SELECT r.object_id, r.store, r.verified_at, o.key, o.size, o.sha256, r.key_id, r.envelope, \
                false AS suspect \
         FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND r.state = 'present' AND r.verified_at IS NULL AND o.state = 'stored' \
           AND coalesce(r.storage_class, '') NOT IN ('GLACIER', 'DEEP_ARCHIVE') AND r.object_id > $2 \
         ORDER BY r.object_id LIMIT 32",
    )
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(after)
    .load(conn)
    .await?)
}

/// Copies in `store` of objects that have no verified copy left anywhere, and suspect copies, after `after`: their
/// content may have been put back, or the finding was wrong.
pub async fn unrecovered_objects(
    conn: &mut AsyncPgConnection,
    store: &str,
    after: ObjectId,
) -> Result<Vec<ToRead>> {
    Ok(diesel::sql_query(
        "SELECT DISTINCT ON (r.object_id) r.object_id, r.store, r.verified_at, o.key, o.size, o.sha256, r.key_id, r.envelope, \
                (r.state = 'lost' AND r.suspect_since IS NOT NULL) AS suspect \
         FROM replicas l JOIN replicas r ON r.object_id = l.object_id AND r.store = $1 \
         JOIN objects o ON o.id = l.object_id \
         WHERE l.state = 'lost' AND l.object_id > $2 AND o.state = 'stored' \
           AND (r.state = 'lost' OR (r.state IN ('failed', 'queued') AND r.verified_at IS NOT NULL)) \
           AND ((r.state = 'lost' AND r.suspect_since IS NOT NULL) OR NOT EXISTS ( \
                SELECT 1 FROM replicas s WHERE s.object_id = l.object_id AND s.state = 'present')) \
         ORDER BY r.object_id LIMIT 32",
    )
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(after)
    .load(conn)
    .await?)
}

/// Records that a copy was read and is intact, encrypted as described by `envelope`. Returns whether it was still the copy
/// that was read.
pub async fn mark_verified(
    conn: &mut AsyncPgConnection,
    read: &ToRead,
    envelope: Option<&EncryptionEnvelope>,
) -> Result<bool> {
    let mut values = Values::default();
    let (sets, which) = (envelope_sets(&mut values, envelope), same_as_read(&mut values, read));
    Ok(values.query(&VERIFY.update(&sets, "", &which)).execute(conn).await? == 1)
}

fn envelope_sets(values: &mut Values, envelope: Option<&EncryptionEnvelope>) -> String {
    let key_id = values.text_or_null(envelope.map(|envelope| envelope.key_id.as_str()));
    let envelope = values.bytes_or_null(envelope.map(|envelope| envelope.wrapped_key.as_slice()));
    format!("key_id = {key_id}, envelope = {envelope}")
}

/// Condition: the replica was not verified in the meantime.
fn same_as_read(values: &mut Values, read: &ToRead) -> String {
    let (object, store) = (values.id(read.object_id), values.text(read.store.as_str()));
    format!(
        "r.object_id = {object} AND r.store = {store} AND r.verified_at IS NOT DISTINCT FROM {}",
        values.bind(Value::Time(read.verified_at))
    )
}

/// Records that a failed copy was read and is intact. The primary store of its files is the store of their verified
/// copy: one of the cloud stores `primary_stores` if there is one. Returns whether the copy was still failed.
pub async fn mark_found_again(
    conn: &mut AsyncPgConnection,
    read: &ToRead,
    envelope: Option<&EncryptionEnvelope>,
    primary_stores: &[&str],
) -> Result<bool> {
    let mut values = Values::default();
    let (sets, which) = (envelope_sets(&mut values, envelope), same_as_read(&mut values, read));
    let primary_stores = values.texts(primary_stores);
    let found = RECOVER.update(
        &sets,
        "FROM objects o",
        &format!("o.id = r.object_id AND o.state = 'stored' AND {which}"),
    );
    let sql = format!(
        "WITH found AS ({found} RETURNING r.object_id, r.store), homes AS ( \
             UPDATE files f SET storage_location = n.store, \
                    synced_at = CASE WHEN n.store = ANY({primary_stores}) THEN now() END \
             FROM found n JOIN file_versions v ON v.object_id = n.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number AND (n.store = ANY({primary_stores}) OR NOT {}) \
         ) SELECT 1 FROM found",
        has_verified("n.object_id", &format!("s.store = ANY({primary_stores})"))
    );
    Ok(values.query(&sql).execute(conn).await? == 1)
}
