//! The `objects` table: intent first (`uploading`), facts last (`stored`), and removal (`removing`).

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::enums::{ObjectState, ReplicaState};
use super::replicas::{FORGET_OBJECT, LEAVE_RUN, ObjectRow, UPLOAD};
use super::schema::{file_versions, objects, postponed_removals, removed_objects, replicas};
use super::signed;
use super::statement::Values;
use crate::checksum::ObjectDigest;
use crate::error::{Error, Result};
use crate::ids::{ObjectId, UserId};

/// A stored object, with the data needed to copy and verify it.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = objects, check_for_backend(diesel::pg::Pg))]
pub struct Object {
    /// Id.
    pub id: ObjectId,
    /// The owner of its files.
    pub owner_id: UserId,
    /// Key in every store.
    pub key: String,
    /// State.
    pub state: ObjectState,
    /// MIME type.
    pub content_type: String,
    /// Size in bytes; `None` while uploading.
    pub size: Option<i64>,
    /// SHA-256 of the content.
    pub sha256: Option<Vec<u8>>,
    /// CRC-64/NVME of the content, big-endian.
    pub crc64nvme: Option<Vec<u8>>,
    /// CRC-64/NVME of each block.
    pub block_crcs: Option<Vec<u8>>,
}

/// The intent to write an object to a store.
#[derive(Debug, Insertable)]
#[diesel(table_name = objects)]
pub struct NewUpload<'a> {
    /// Id.
    pub id: ObjectId,
    /// The uploading account.
    pub owner_id: UserId,
    /// Key in the store.
    pub key: &'a str,
    /// Always `uploading`.
    pub state: ObjectState,
    /// MIME type.
    pub content_type: &'a str,
    /// Destination store.
    pub upload_store: &'a str,
    /// After this time the reaper treats it as dead.
    pub upload_expires_at: DateTime<Utc>,
}

/// Records the intent to upload, before any byte is sent.
pub async fn begin_upload(conn: &mut AsyncPgConnection, upload: &NewUpload<'_>) -> Result<()> {
    diesel::insert_into(objects::table).values(upload).execute(conn).await?;
    Ok(())
}

/// Renews an upload, and records its multipart upload id. Returns whether it is still ours: `false` means that the
/// reaper has taken it, and nothing more may be sent.
pub async fn renew_upload(
    conn: &mut AsyncPgConnection,
    id: ObjectId,
    upload_id: Option<&str>,
    expires_at: DateTime<Utc>,
) -> Result<bool> {
    let changed = diesel::update(objects::table.find(id).filter(objects::state.eq(ObjectState::Uploading)))
        .set((objects::upload_id.eq(upload_id), objects::upload_expires_at.eq(expires_at)))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

/// Acknowledges an upload: the object becomes `stored`, with its first verified replica in the store it was uploaded
/// to. Part of the transaction that creates the file version.
///
/// # Errors
/// [`Error::Conflict`] if the reaper was faster: the upload was inactive for too long.
pub async fn finish_upload(
    conn: &mut AsyncPgConnection,
    id: ObjectId,
    digest: &ObjectDigest,
    store: &str,
    etag: &str,
) -> Result<()> {
    let changed = diesel::update(objects::table.find(id).filter(objects::state.eq(ObjectState::Uploading)))
        .set((
            objects::state.eq(ObjectState::Stored),
            objects::size.eq(signed(digest.size)),
            objects::sha256.eq(digest.sha256.as_bytes().as_slice()),
            objects::crc64nvme.eq(digest.crc64nvme.as_u64().to_be_bytes().as_slice()),
            objects::block_crcs.eq(digest.blocks.to_bytes()),
            objects::upload_id.eq(None::<String>),
            objects::upload_expires_at.eq(None::<DateTime<Utc>>),
            objects::stored_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    if changed != 1 {
        return Err(Error::Conflict("The upload took too long and was aborted. Send it again.".to_owned()));
    }
    let mut values = Values::default();
    let select =
        format!("SELECT {}, {}, {}, 'upload', now()", values.id(id), values.text(store), values.text(etag));
    let sql = UPLOAD.insert("object_id, store, etag, rule, verified_at", &select, "");
    values.query(&sql).execute(conn).await?;
    Ok(())
}

/// Abandons an upload. The reaper deletes its data. Returns whether it was still uploading.
pub async fn abandon_upload(conn: &mut AsyncPgConnection, id: ObjectId) -> Result<bool> {
    let changed = diesel::update(objects::table.find(id).filter(objects::state.eq(ObjectState::Uploading)))
        .set(objects::state.eq(ObjectState::Removing))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

/// Abandons uploads that have expired, at most `limit`. Returns their number.
pub async fn abandon_expired(conn: &mut AsyncPgConnection, now: DateTime<Utc>, limit: i64) -> Result<usize> {
    Ok(diesel::sql_query(
        "WITH expired AS MATERIALIZED ( \
             SELECT id FROM objects WHERE state = 'uploading' AND upload_expires_at < $1 \
             ORDER BY upload_expires_at LIMIT $2 FOR UPDATE SKIP LOCKED \
         ) UPDATE objects o SET state = 'removing' FROM expired WHERE o.id = expired.id AND o.state = 'uploading'",
    )
    .bind::<Timestamptz, _>(now)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}

/// Marks those of these objects for removal that no file version references any more.
pub async fn remove_unreferenced(conn: &mut AsyncPgConnection, ids: &[ObjectId]) -> Result<usize> {
    let referenced =
        diesel::dsl::exists(file_versions::table.filter(file_versions::object_id.eq(objects::id)));
    let removed: Vec<ObjectId> = diesel::update(
        objects::table
            .filter(objects::id.eq_any(ids))
            .filter(objects::state.eq(ObjectState::Stored))
            .filter(diesel::dsl::not(referenced)),
    )
    .set(objects::state.eq(ObjectState::Removing))
    .returning(objects::id)
    .get_results(conn)
    .await?;
    // Queued copies must not be claimed any more: claims go by run.
    let mut values = Values::default();
    let which = format!("r.object_id = ANY({})", values.ids(&removed));
    values.query(&LEAVE_RUN.update("", "", &which)).execute(conn).await?;
    Ok(removed.len())
}

/// An object to be removed.
#[derive(Debug, Clone, Queryable)]
pub struct Removal {
    /// Id.
    pub id: ObjectId,
    /// Key in every store.
    pub key: String,
    /// The store it was uploaded to.
    pub upload_store: String,
    /// A multipart upload that was never completed.
    pub upload_id: Option<String>,
    /// Whether it was ever acknowledged.
    pub was_stored: bool,
}

/// Which objects to remove next.
#[derive(Debug, Clone, Copy)]
pub enum Removals<'r> {
    /// Those after this one whose removal was not postponed.
    After(Option<ObjectId>),
    /// These.
    Of(&'r [ObjectId]),
}

/// The next objects whose data must be deleted, at most `limit`. Objects that are being copied wait until the copy ends,
/// and those that may have data in one of the stores `down` wait until that store is back.
pub async fn removals(
    conn: &mut AsyncPgConnection,
    down: &[&str],
    which: Removals<'_>,
    limit: i64,
) -> Result<Vec<Removal>> {
    let in_flight = diesel::dsl::exists(
        replicas::table
            .filter(replicas::object_id.eq(objects::id))
            .filter(replicas::state.eq_any([ReplicaState::Copying, ReplicaState::Evicting])),
    );
    let out_of_reach = diesel::dsl::exists(
        replicas::table.filter(replicas::object_id.eq(objects::id)).filter(replicas::store.eq_any(down)),
    );
    let postponed =
        diesel::dsl::exists(postponed_removals::table.filter(postponed_removals::object_id.eq(objects::id)));
    let mut query = objects::table
        .filter(objects::state.eq(ObjectState::Removing))
        .filter(objects::upload_store.ne_all(down))
        .filter(diesel::dsl::not(in_flight))
        .filter(diesel::dsl::not(out_of_reach))
        .select((
            objects::id,
            objects::key,
            objects::upload_store,
            objects::upload_id,
            objects::stored_at.is_not_null(),
        ))
        .order(objects::id)
        .limit(limit)
        .into_boxed();
    match which {
        Removals::After(after) => {
            query = query.filter(diesel::dsl::not(postponed));
            if let Some(after) = after {
                query = query.filter(objects::id.gt(after));
            }
        }
        Removals::Of(ids) => query = query.filter(objects::id.eq_any(ids)),
    }
    Ok(query.load(conn).await?)
}

/// Postpones the removal of objects that could not be removed: they are tried after all others.
pub async fn postpone_removals(conn: &mut AsyncPgConnection, ids: &[ObjectId]) -> Result<()> {
    let mut values = Values::default();
    let ids = values.ids(ids);
    let sql = format!(
        "INSERT INTO postponed_removals (object_id) \
         SELECT id FROM objects WHERE id = ANY({ids}) AND state = 'removing' ON CONFLICT DO NOTHING"
    );
    values.query(&sql).execute(conn).await?;
    Ok(())
}

/// Takes the objects whose removal was postponed and that have waited the longest, at most `limit`. The others come next,
/// whatever becomes of these.
pub async fn take_postponed(conn: &mut AsyncPgConnection, limit: i64) -> Result<Vec<ObjectId>> {
    let rows: Vec<ObjectRow> = diesel::sql_query(
        "WITH next AS MATERIALIZED ( \
             SELECT object_id FROM postponed_removals ORDER BY tried_at LIMIT $1 FOR UPDATE SKIP LOCKED \
         ) UPDATE postponed_removals p SET tried_at = now() FROM next WHERE p.object_id = next.object_id \
         RETURNING p.object_id",
    )
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(ObjectRow::ids(rows))
}

/// Deletes the row of an object whose data has been deleted from every store, and records the removal. Part of a
/// transaction.
pub async fn delete(conn: &mut AsyncPgConnection, id: ObjectId) -> Result<()> {
    let mut values = Values::default();
    let which = format!("r.object_id = {}", values.id(id));
    values.query(&FORGET_OBJECT.delete("", &which)).execute(conn).await?;
    let gone = diesel::delete(objects::table.find(id).filter(objects::state.eq(ObjectState::Removing)))
        .execute(conn)
        .await?;
    if gone > 0 {
        diesel::insert_into(removed_objects::table)
            .values(removed_objects::object_id.eq(id))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// Those of these objects that were removed. An object in a store that is neither known nor removed may be newer than a
/// restored database.
pub async fn removed_among(conn: &mut AsyncPgConnection, ids: &[ObjectId]) -> Result<Vec<ObjectId>> {
    Ok(removed_objects::table
        .filter(removed_objects::object_id.eq_any(ids))
        .select(removed_objects::object_id)
        .load(conn)
        .await?)
}

/// Forgets objects that were removed before `before`, at most `limit`: what is left of them in a store counts as unknown.
pub async fn purge_removed(conn: &mut AsyncPgConnection, before: DateTime<Utc>, limit: i64) -> Result<usize> {
    Ok(diesel::sql_query(
        "WITH old AS MATERIALIZED ( \
             SELECT object_id FROM removed_objects WHERE removed_at < $1 ORDER BY removed_at LIMIT $2 \
         ) DELETE FROM removed_objects r USING old WHERE r.object_id = old.object_id",
    )
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}

/// Whether an object has this key, in any state.
pub async fn is_known(conn: &mut AsyncPgConnection, key: &str) -> Result<bool> {
    let found = objects::table.filter(objects::key.eq(key)).select(objects::id);
    Ok(diesel::select(diesel::dsl::exists(found)).get_result(conn).await?)
}

/// Finds an object.
pub async fn find(conn: &mut AsyncPgConnection, id: ObjectId) -> Result<Option<Object>> {
    Ok(objects::table.find(id).select(Object::as_select()).first(conn).await.optional()?)
}
