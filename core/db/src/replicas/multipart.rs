//! The multipart upload of a copy in progress.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::transitions::{FORGET_UPLOAD, SET_UPLOAD, under_lease};
use crate::encryption::EncryptionEnvelope;
use crate::enums::ReplicaState;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};
use crate::schema::replicas;
use crate::statement::{Value, Values};

/// Stores the multipart upload of a copy and its encryption, so that the next worker can resume it with the same bytes,
/// or that there is no upload any more. Returns whether the lease is still held.
pub async fn begin_multipart(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    upload_id: Option<&str>,
    part_size: Option<i64>,
    envelope: Option<&EncryptionEnvelope>,
) -> Result<bool> {
    let mut values = Values::default();
    let (upload, part_size) = (values.text_or_null(upload_id), values.bind(Value::Number(part_size)));
    let key_id = values.text_or_null(envelope.map(|envelope| envelope.key_id.as_str()));
    let envelope = values.bytes_or_null(envelope.map(|envelope| envelope.wrapped_key.as_slice()));
    // Removing an upload keeps the envelope of an object that may exist.
    let sets = format!(
        "upload_id = {upload}, part_size = {part_size}, \
         key_id = CASE WHEN {upload} IS NULL THEN r.key_id ELSE {key_id} END, \
         envelope = CASE WHEN {upload} IS NULL THEN r.envelope ELSE {envelope} END"
    );
    let which = under_lease(&mut values, &[object], store, token);
    Ok(values.query(&SET_UPLOAD.update(&sets, "", &which)).execute(conn).await? == 1)
}

/// Removes the multipart upload of a permanently failed copy.
pub async fn delete_multipart(conn: &mut AsyncPgConnection, object: ObjectId, store: &str) -> Result<()> {
    let mut values = Values::default();
    let (object, store) = (values.id(object), values.text(store));
    let which = format!("r.object_id = {object} AND r.store = {store} AND r.state = 'failed'");
    values.query(&FORGET_UPLOAD.update("", "", &which)).execute(conn).await?;
    Ok(())
}

/// The multipart upload of a permanently failed copy.
pub async fn failed_multipart(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
) -> Result<Option<String>> {
    let upload: Option<Option<String>> = replicas::table
        .find((object, store))
        .filter(replicas::state.eq(ReplicaState::Failed))
        .select(replicas::upload_id)
        .first(conn)
        .await
        .optional()?;
    Ok(upload.flatten())
}

/// Whether no worker continues this multipart upload now: the copy is queued or failed. Check it immediately before the
/// upload is aborted.
pub async fn is_interrupted(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    upload: &str,
) -> Result<bool> {
    let row = replicas::table
        .find((object, store))
        .filter(replicas::state.eq_any([ReplicaState::Queued, ReplicaState::Failed]))
        .filter(replicas::upload_id.eq(upload));
    Ok(diesel::select(diesel::dsl::exists(row)).get_result(conn).await?)
}

/// The multipart uploads of an object's unfinished copies: (store, upload id).
pub async fn open_multiparts(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
) -> Result<Vec<(String, String)>> {
    Ok(replicas::table
        .filter(replicas::object_id.eq(object))
        .filter(replicas::upload_id.is_not_null())
        .select((replicas::store, replicas::upload_id.assume_not_null()))
        .load(conn)
        .await?)
}
