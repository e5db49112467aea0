//! What lies in the stores while a catalogue is rebuilt: the listings, and what was seen of the objects that were looked
//! at more closely. In temporary tables, so that a bucket of any size fits.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use uuid::Uuid;

use crate::encryption::{CHUNK, TAG};
use crate::error::{Error, Result};

/// An object of a listing.
#[derive(Debug, Clone)]
pub struct FoundObject {
    /// Key.
    pub key: String,
    /// Bytes.
    pub size: i64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// Makes the tables, gone with the transaction.
pub async fn make_tables(conn: &mut AsyncPgConnection) -> Result<()> {
    for sql in [
        "CREATE TEMP TABLE catalog_found ( \
             key text COLLATE \"C\" NOT NULL, store text NOT NULL, size bigint NOT NULL, modified timestamptz NOT NULL \
         ) ON COMMIT DROP",
        "CREATE TEMP TABLE catalog_seen ( \
             key text COLLATE \"C\" NOT NULL, store text NOT NULL, ordinal integer NOT NULL, size bigint NOT NULL, \
             etag text NOT NULL, storage_class text, content_type text NOT NULL, sha256 text NOT NULL, \
             crc64nvme text NOT NULL, block_crcs text, key_id text, envelope text, verified_at timestamptz NOT NULL, at timestamptz NOT NULL, \
             object_id uuid NOT NULL, owner_id uuid NOT NULL, email text, file_id uuid, version integer, \
             name text NOT NULL, original text NOT NULL, folder text[] NOT NULL, folder_id uuid \
         ) ON COMMIT DROP",
    ] {
        diesel::sql_query(sql).execute(conn).await?;
    }
    Ok(())
}

/// Notes a page of a store's listing.
pub async fn note_found(conn: &mut AsyncPgConnection, store: &str, objects: &[FoundObject]) -> Result<()> {
    let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let sizes: Vec<i64> = objects.iter().map(|object| object.size).collect();
    let modified: Vec<DateTime<Utc>> = objects.iter().map(|object| object.modified).collect();
    diesel::sql_query(
        "INSERT INTO catalog_found (key, store, size, modified) \
         SELECT k, $1, s, m FROM unnest($2::text[], $3::bigint[], $4::timestamptz[]) AS f (k, s, m)",
    )
    .bind::<Text, _>(store)
    .bind::<Array<Text>, _>(&keys)
    .bind::<Array<BigInt>, _>(&sizes)
    .bind::<Array<Timestamptz>, _>(&modified)
    .execute(conn)
    .await?;
    Ok(())
}

/// Call it when every listing is noted. A store that listed an object twice has it once.
pub async fn index_found(conn: &mut AsyncPgConnection) -> Result<()> {
    for sql in [
        "DELETE FROM catalog_found a USING catalog_found b WHERE a.key = b.key AND a.store = b.store AND a.ctid < b.ctid",
        "CREATE UNIQUE INDEX catalog_found_key ON catalog_found (key, store)",
        "ANALYZE catalog_found, objects, replicas",
    ] {
        diesel::sql_query(sql).execute(conn).await?;
    }
    Ok(())
}

/// An object in a store that has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Candidate {
    /// Key.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Bytes, as listed.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// When it was written.
    #[diesel(sql_type = Timestamptz)]
    pub modified: DateTime<Utc>,
}

/// SQL for the bytes that a store has of an object of `size` bytes: of one that is encrypted, those of its tags too.
pub(super) fn stored_size(size: &str, encrypted: &str) -> String {
    format!(
        "({size} + CASE WHEN {encrypted} THEN {TAG} * greatest(1, ({size} + {CHUNK} - 1) / {CHUNK}) ELSE 0 END)"
    )
}

/// What makes a listed object `f` one to look at: nobody knows it and it is not older than `$1`, or it is known, and
/// that it is here is not.
fn is_candidate() -> String {
    let encrypted = stored_size("o.size", "true");
    format!(
        "CASE WHEN o.id IS NULL THEN ($1::timestamptz IS NULL OR f.modified >= $1) \
         ELSE f.size IN (o.size, {encrypted}) AND r.state IS DISTINCT FROM 'present' END"
    )
}
const FOUND_AND_KNOWN: &str = "catalog_found f LEFT JOIN objects o ON o.key = f.key \
     LEFT JOIN replicas r ON r.object_id = o.id AND r.store = f.store";

/// The next objects to look at, after `after`, at most `limit`.
pub async fn candidates(
    conn: &mut AsyncPgConnection,
    since: Option<DateTime<Utc>>,
    after: Option<&Candidate>,
    limit: i64,
) -> Result<Vec<Candidate>> {
    let (key, store) = after.map_or(("", ""), |after| (after.key.as_str(), after.store.as_str()));
    let is_candidate = is_candidate();
    Ok(diesel::sql_query(format!(
        "SELECT f.key, f.store, f.size, f.modified FROM {FOUND_AND_KNOWN} \
         WHERE (f.key, f.store) > ($2 COLLATE \"C\", $3) AND {is_candidate} ORDER BY f.key, f.store LIMIT $4"
    ))
    .bind::<Nullable<Timestamptz>, _>(since)
    .bind::<Text, _>(key)
    .bind::<Text, _>(store)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Objects that nobody knows and that are older than `since`: deleted before the snapshot, as far as one can tell.
pub async fn left_out(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> Result<u64> {
    let row: Count = diesel::sql_query(
        "SELECT count(DISTINCT f.key) AS count FROM catalog_found f \
         WHERE f.modified < $1 AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.key = f.key)",
    )
    .bind::<Timestamptz, _>(since)
    .get_result(conn)
    .await?;
    Ok(crate::db::unsigned(row.count))
}

/// What was seen of an object in a store: a row of its own for each version that it is.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Key.
    pub key: String,
    /// Store.
    pub store: String,
    /// 0 for the first version; further ones are the same object again.
    pub ordinal: i32,
    /// Bytes in the clear.
    pub size: i64,
    /// Entity tag.
    pub etag: String,
    /// Storage class.
    pub storage_class: Option<String>,
    /// MIME type.
    pub content_type: String,
    /// Hexadecimal.
    pub sha256: String,
    /// Hexadecimal.
    pub crc64nvme: String,
    /// Hexadecimal, where the bytes were read.
    pub block_crcs: Option<String>,
    /// Name of the key that it is encrypted with, if it is.
    pub key_id: Option<String>,
    /// See [`crate::encryption::Seal`]. Hexadecimal.
    pub envelope: Option<String>,
    /// When the bytes were last known to be right.
    pub verified_at: DateTime<Utc>,
    /// When they were uploaded.
    pub at: DateTime<Utc>,
    /// Object.
    pub object_id: Uuid,
    /// Account.
    pub owner_id: Uuid,
    /// Its email address.
    pub email: Option<String>,
    /// File, where that is known.
    pub file_id: Option<Uuid>,
    /// Version, where the file is known.
    pub version: Option<i32>,
    /// The file's name.
    pub name: String,
    /// Its name at the first upload.
    pub original: String,
    /// Names of the folders from the root to the file.
    pub folder: Vec<String>,
}

/// Notes what was seen.
pub async fn note_seen(conn: &mut AsyncPgConnection, seen: &[Seen]) -> Result<()> {
    let rows = serde_json::to_value(seen)
        .map_err(|error| Error::Internal(format!("what was seen cannot be written: {error}")))?;
    diesel::sql_query(
        "INSERT INTO catalog_seen SELECT * FROM jsonb_populate_recordset(NULL::catalog_seen, $1)",
    )
    .bind::<Jsonb, _>(rows)
    .execute(conn)
    .await?;
    Ok(())
}
