//! The check of claimed evictions immediately before the deletions: one statement for all of them, which also returns
//! what the requests to the stores need.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::predicates::{not_pinned, readable};
use crate::encryption::EncryptionEnvelope;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};
use crate::statement::Values;

/// The terms of a check.
#[derive(Debug, Clone, Copy)]
pub struct EvictionCheck<'a> {
    /// The store to evict from.
    pub store: &'a str,
    /// The destinations, if the store is being drained.
    pub moving_to: &'a [&'a str],
    /// The lease of the evictions.
    pub token: LeaseToken,
    /// The lease must last for at least this time: the time that the caller takes until the deletions.
    pub least: Duration,
    /// Verifications that are older are reported; `None`: none are.
    pub max_age: Option<Duration>,
}

/// A claimed eviction whose lease is still held, with the recorded content of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedEviction {
    /// Object.
    pub object_id: ObjectId,
    /// Size in bytes.
    pub size: i64,
    /// SHA-256 of the content.
    pub sha256: Option<Vec<u8>>,
    /// CRC-64/NVME of the content, big-endian.
    pub crc64nvme: Option<Vec<u8>>,
    /// Encryption envelope of the copy to delete; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
    /// The copies in other stores of which one permits the deletion if it is found intact. Without any, the copy must
    /// be kept: its file was pinned, or no other store has a verified copy any more.
    pub others: Vec<OtherCopy>,
}

/// A verified copy in another store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherCopy {
    /// Store.
    pub store: String,
    /// The ETag recorded when it was written.
    pub etag: Option<String>,
    /// Encryption envelope; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
    /// When it was verified.
    pub verified_at: DateTime<Utc>,
    /// Whether that is longer ago than permitted, by the clock of the database.
    pub is_old: bool,
}

/// Checks claimed evictions of these objects immediately before the deletions. A copy in a store that is being drained
/// may also be deleted if one of the stores `moving_to` has a readable copy; pins do not apply then, because the copy
/// has been moved. A copy that was to be moved to a certain store is deleted only if that store has a readable copy.
/// Lost and suspect copies, and those that were found and could not be proved, permit no deletion. Evictions that another
/// worker holds now, or whose lease does not last, are not returned.
pub async fn check_evictions(
    conn: &mut AsyncPgConnection,
    check: EvictionCheck<'_>,
    objects: &[ObjectId],
) -> Result<Vec<CheckedEviction>> {
    let mut values = Values::default();
    let least = values.seconds(check.least);
    let (objects, store, token) = (values.ids(objects), values.text(check.store), values.id(check.token));
    let moving_to = values.texts(check.moving_to);
    let is_old = match check.max_age {
        None => "false".to_owned(),
        Some(age) => {
            format!("coalesce(s.verified_at <= now() - make_interval(secs => {}), true)", values.seconds(age))
        }
    };
    let sql = format!(
        "SELECT r.object_id, coalesce(o.size, 0) AS size, o.sha256, o.crc64nvme, r.key_id AS own_key_id, \
                r.envelope AS own_envelope, s.store, s.etag, s.key_id, s.envelope, s.verified_at, {is_old} AS is_old \
         FROM replicas r JOIN objects o ON o.id = r.object_id \
         LEFT JOIN replicas s ON s.object_id = r.object_id AND s.store <> r.store AND s.state = 'present' \
              AND s.verified_at IS NOT NULL AND CASE r.evict_reason WHEN 'rebalance' THEN s.store = r.moves_to AND {readable} \
                  ELSE {not_pinned} OR (s.store = ANY({moving_to}) AND {readable}) END \
         WHERE r.object_id = ANY({objects}) AND r.store = {store} AND r.state = 'evicting' AND r.lease_token = {token} \
           AND r.lease_until > now() + make_interval(secs => {least}) \
         ORDER BY r.object_id, s.store",
        readable = readable("s"),
        not_pinned = not_pinned("r.object_id"),
    );
    let rows: Vec<Row> = values.query(&sql).load(conn).await?;
    let mut checked: Vec<CheckedEviction> = Vec::new();
    for mut row in rows {
        let other = row.other();
        match checked.last_mut() {
            Some(previous) if previous.object_id == row.object_id => previous.others.extend(other),
            _ => checked.push(CheckedEviction {
                object_id: row.object_id,
                size: row.size,
                sha256: row.sha256,
                crc64nvme: row.crc64nvme,
                envelope: EncryptionEnvelope::from_columns(row.own_key_id, row.own_envelope),
                others: other.into_iter().collect(),
            }),
        }
    }
    Ok(checked)
}

/// An eviction with one of the other copies, or with none.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
    #[diesel(sql_type = BigInt)]
    size: i64,
    #[diesel(sql_type = Nullable<Bytea>)]
    sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    crc64nvme: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    own_key_id: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    own_envelope: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    store: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    etag: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key_id: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    envelope: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    verified_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    is_old: bool,
}

impl Row {
    fn other(&mut self) -> Option<OtherCopy> {
        Some(OtherCopy {
            store: self.store.take()?,
            etag: self.etag.take(),
            envelope: EncryptionEnvelope::from_columns(self.key_id.take(), self.envelope.take()),
            verified_at: self.verified_at?,
            is_old: self.is_old,
        })
    }
}
