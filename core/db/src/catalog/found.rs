//! The contents of the stores during a rebuild: the listings, and the observations about examined objects. Stored in
//! temporary tables, so that a bucket of any size fits.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use uuid::Uuid;

use crate::encryption::{CHUNK, TAG};
use crate::error::{Error, Result};
use crate::replicas::Count;

/// An object in a listing.
#[derive(Debug, Clone)]
pub struct FoundObject {
    /// Key.
    pub key: String,
    /// Size in bytes.
    pub size: i64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// How long the temporary tables exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until the end of the transaction.
    Transaction,
    /// Until the connection is closed.
    Connection,
}

/// Creates the tables.
pub async fn make_tables(conn: &mut AsyncPgConnection, lifetime: Lifetime) -> Result<()> {
    let on_commit = match lifetime {
        Lifetime::Transaction => "DROP",
        Lifetime::Connection => "PRESERVE ROWS",
    };
    if lifetime == Lifetime::Connection {
        // Listing takes as long as it takes.
        diesel::sql_query("SET statement_timeout = 0").execute(conn).await?;
    }
    for sql in [
        format!(
            "CREATE TEMP TABLE catalog_found ( \
             key text COLLATE \"C\" NOT NULL, store text NOT NULL, size bigint NOT NULL, modified timestamptz NOT NULL \
         ) ON COMMIT {on_commit}"
        ),
        format!(
            "CREATE TEMP TABLE catalog_seen ( \
             key text COLLATE \"C\" NOT NULL, store text NOT NULL, ordinal integer NOT NULL, size bigint NOT NULL, \
             certainty smallint NOT NULL, \
             etag text NOT NULL, storage_class text, content_type text NOT NULL, sha256 text NOT NULL, \
             crc64nvme text NOT NULL, block_crcs text, key_id text, envelope text, verified_at timestamptz, at timestamptz NOT NULL, \
             object_id uuid NOT NULL, owner_id uuid NOT NULL, email text, file_id uuid, version integer, \
             name text NOT NULL, original text NOT NULL, folder text[] NOT NULL, folder_id uuid \
         ) ON COMMIT {on_commit}"
        ),
    ] {
        diesel::sql_query(sql).execute(conn).await?;
    }
    Ok(())
}

/// Records a page of a store's listing.
pub async fn record_listed(conn: &mut AsyncPgConnection, store: &str, objects: &[FoundObject]) -> Result<()> {
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

/// Call this after all listings are recorded. Duplicates within a listing are removed.
pub async fn index_listed(conn: &mut AsyncPgConnection) -> Result<()> {
    for sql in [
        "DELETE FROM catalog_found a USING catalog_found b WHERE a.key = b.key AND a.store = b.store AND a.ctid < b.ctid",
        "CREATE UNIQUE INDEX catalog_found_key ON catalog_found (key, store)",
        "ANALYZE catalog_found, objects, replicas",
    ] {
        diesel::sql_query(sql).execute(conn).await?;
    }
    Ok(())
}

/// An object in a store that has to be examined.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Candidate {
    /// Key.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Size in bytes, as listed.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// When it was written.
    #[diesel(sql_type = Timestamptz)]
    pub modified: DateTime<Utc>,
}

/// SQL for the stored size of an object of `size` bytes: for an encrypted copy, including its authentication tags.
pub(super) fn stored_size(size: &str, encrypted: &str) -> String {
    format!(
        "({size} + CASE WHEN {encrypted} THEN {TAG} * greatest(1, ({size} + {CHUNK} - 1) / {CHUNK}) ELSE 0 END)"
    )
}

/// The next objects to examine, after `after`, at most `limit`: those that are unknown and not older than `since`, or
/// known, but not in this store.
pub async fn candidates(
    conn: &mut AsyncPgConnection,
    since: Option<DateTime<Utc>>,
    after: Option<&Candidate>,
    limit: i64,
) -> Result<Vec<Candidate>> {
    let (key, store) = after.map_or(("", ""), |after| (after.key.as_str(), after.store.as_str()));
    let encrypted = stored_size("o.size", "true");
    Ok(diesel::sql_query(format!(
        "SELECT f.key, f.store, f.size, f.modified FROM catalog_found f LEFT JOIN objects o ON o.key = f.key \
         LEFT JOIN replicas r ON r.object_id = o.id AND r.store = f.store \
         WHERE (f.key, f.store) > ($2 COLLATE \"C\", $3) \
           AND CASE WHEN o.id IS NULL THEN ($1::timestamptz IS NULL OR f.modified >= $1) \
               ELSE f.size IN (o.size, {encrypted}) AND r.state IS DISTINCT FROM 'present' END \
         ORDER BY f.key, f.store LIMIT $4"
    ))
    .bind::<Nullable<Timestamptz>, _>(since)
    .bind::<Text, _>(key)
    .bind::<Text, _>(store)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// The next unknown objects to examine, after `after`, at most `limit`, in any store.
pub async fn unknown(
    conn: &mut AsyncPgConnection,
    after: Option<&Candidate>,
    limit: i64,
) -> Result<Vec<Candidate>> {
    let (key, store) = after.map_or(("", ""), |after| (after.key.as_str(), after.store.as_str()));
    Ok(diesel::sql_query(
        "SELECT f.key, f.store, f.size, f.modified FROM catalog_found f \
         WHERE (f.key, f.store) > ($1 COLLATE \"C\", $2) AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.key = f.key) \
         ORDER BY f.key, f.store LIMIT $3",
    )
    .bind::<Text, _>(key)
    .bind::<Text, _>(store)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Forgets the observations, before the next ones are recorded.
pub async fn clear_observed(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("TRUNCATE catalog_seen").execute(conn).await?;
    Ok(())
}

/// Unknown objects older than `since`: presumably deleted before the snapshot.
pub async fn count_unrecovered(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> Result<u64> {
    let row: Count = diesel::sql_query(
        "SELECT count(DISTINCT f.key) AS count FROM catalog_found f \
         WHERE f.modified < $1 AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.key = f.key)",
    )
    .bind::<Timestamptz, _>(since)
    .get_result(conn)
    .await?;
    Ok(crate::unsigned(row.count))
}

/// How certain it is that the checksums of an observation are those of the upload. Serialized as a number; of several
/// observations, the highest is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// They were computed from the content, and the metadata has none.
    Content,
    /// They are in the metadata, and nothing proves that the content matches.
    Metadata,
    /// They are in the metadata, and the content matches.
    Proved,
}

impl Serialize for Certainty {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_u8(match self {
            Self::Content => 0,
            Self::Metadata => 1,
            Self::Proved => 2,
        })
    }
}

/// An observation about an object in a store: one row for each version of the object.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Key.
    pub key: String,
    /// Store.
    pub store: String,
    /// 0 for the first version; further rows describe the same object.
    pub ordinal: i32,
    /// Size of the plaintext.
    pub size: i64,
    /// ETag.
    pub etag: String,
    /// Storage class.
    pub storage_class: Option<String>,
    /// MIME type.
    pub content_type: String,
    /// Hexadecimal.
    pub sha256: String,
    /// Hexadecimal.
    pub crc64nvme: String,
    /// How certain it is that these are the checksums of the upload.
    pub certainty: Certainty,
    /// Whether the metadata names this object, as Nightferry writes it.
    #[serde(skip)]
    pub is_labelled: bool,
    /// Hexadecimal, if the content was read.
    pub block_crcs: Option<String>,
    /// Id of the encryption key, if encrypted.
    pub key_id: Option<String>,
    /// See [`crate::encryption::EncryptionEnvelope`]. Hexadecimal.
    pub envelope: Option<String>,
    /// When the content was verified; `None` if it could not be proved.
    pub verified_at: Option<DateTime<Utc>>,
    /// When they were uploaded.
    pub at: DateTime<Utc>,
    /// Object.
    pub object_id: Uuid,
    /// Account.
    pub owner_id: Uuid,
    /// Email address.
    pub email: Option<String>,
    /// File, if known.
    pub file_id: Option<Uuid>,
    /// Version, if the file is known.
    pub version: Option<i32>,
    /// The file's name.
    pub name: String,
    /// Name at upload.
    pub original: String,
    /// Names of the folders from the root to the file.
    pub folder: Vec<String>,
}

/// Records observations.
pub async fn record_observed(conn: &mut AsyncPgConnection, seen: &[Seen]) -> Result<()> {
    let rows = serde_json::to_value(seen)
        .map_err(|error| Error::Internal(format!("cannot encode the observations: {error}")))?;
    diesel::sql_query(
        "INSERT INTO catalog_seen SELECT * FROM jsonb_populate_recordset(NULL::catalog_seen, $1)",
    )
    .bind::<Jsonb, _>(rows)
    .execute(conn)
    .await?;
    Ok(())
}
