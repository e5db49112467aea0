//! The `transfer_parts` table: finished parts of incomplete multipart uploads.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::transfer_parts;
use crate::error::Result;
use crate::ids::ObjectId;

/// A part acknowledged by the destination.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = transfer_parts, check_for_backend(diesel::pg::Pg))]
pub struct TransferPart {
    /// Object being copied.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// Multipart upload.
    pub upload_id: String,
    /// Part number, from 1 (S3 `UploadPart`).
    pub number: i32,
    /// Size in bytes.
    pub size: i64,
    /// As returned by the destination.
    pub etag: String,
    /// CRC-64/NVME of the plaintext part, big-endian.
    pub crc64nvme: Vec<u8>,
    /// CRC-64/NVME of the stored part, if encrypted.
    pub sealed_crc64nvme: Option<Vec<u8>>,
}

/// Records a finished part. Idempotent.
pub async fn insert(conn: &mut AsyncPgConnection, part: &TransferPart) -> Result<()> {
    diesel::insert_into(transfer_parts::table).values(part).on_conflict_do_nothing().execute(conn).await?;
    Ok(())
}

/// The finished parts of a multipart upload, by number.
pub async fn of_upload(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    upload_id: &str,
) -> Result<Vec<TransferPart>> {
    Ok(transfer_parts::table
        .filter(transfer_parts::object_id.eq(object))
        .filter(transfer_parts::store.eq(store))
        .filter(transfer_parts::upload_id.eq(upload_id))
        .order(transfer_parts::number)
        .select(TransferPart::as_select())
        .load(conn)
        .await?)
}

/// Deletes all parts of an object's copies to a store.
pub async fn delete(conn: &mut AsyncPgConnection, object: ObjectId, store: &str) -> Result<()> {
    diesel::delete(
        transfer_parts::table
            .filter(transfer_parts::object_id.eq(object))
            .filter(transfer_parts::store.eq(store)),
    )
    .execute(conn)
    .await?;
    Ok(())
}
