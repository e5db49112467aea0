//! Adoption: an object that was found in a store, although its row or the lack of one says otherwise, becomes a verified
//! copy. After a restored backup, the stores hold copies that the database does not know.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::predicates::has_verified;
use super::transitions::ADOPT;
use crate::encryption::EncryptionEnvelope;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::statement::Values;

/// An intact copy that was found in a store.
#[derive(Debug, Clone)]
pub struct FoundCopy<'a> {
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: &'a str,
    /// As returned by the store.
    pub etag: &'a str,
    /// As returned by the store.
    pub storage_class: Option<&'a str>,
    /// Encryption envelope; `None` if unencrypted.
    pub envelope: Option<&'a EncryptionEnvelope>,
}

/// An adopted copy.
#[derive(Debug, Clone, QueryableByName)]
pub struct Adopted {
    /// Whether there was no row.
    #[diesel(sql_type = Bool)]
    pub is_new: bool,
    /// A multipart upload of an earlier attempt, which is no longer required.
    #[diesel(sql_type = Nullable<Text>)]
    pub upload_id: Option<String>,
}

/// Records a copy that was found and proved. The row is inserted only if no other copy is present, except in the stores
/// `missing`, where it was looked for and not found: otherwise the copy may be one that is just being evicted. The
/// primary store of its files becomes this one if it is one of the cloud stores `primary_stores`, or if none of them has
/// a copy. Returns `None` if nothing was changed.
pub async fn adopt(
    conn: &mut AsyncPgConnection,
    found: &FoundCopy<'_>,
    missing: &[&str],
    primary_stores: &[&str],
) -> Result<Option<Adopted>> {
    let mut values = Values::default();
    let (object, store) = (values.id(found.object_id), values.text(found.store));
    let (etag, class) = (values.text(found.etag), values.text_or_null(found.storage_class));
    let key_id = values.text_or_null(found.envelope.map(|envelope| envelope.key_id.as_str()));
    let envelope = values.bytes_or_null(found.envelope.map(|envelope| envelope.wrapped_key.as_slice()));
    let (missing, primary_stores) = (values.texts(missing), values.texts(primary_stores));
    let select = format!(
        "SELECT {object}, {store}, {etag}, {class}, now(), {key_id}, {envelope} FROM stored \
         WHERE EXISTS (SELECT 1 FROM before) \
            OR NOT EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = {object} AND c.store <> {store} \
                           AND c.store <> ALL({missing}) AND c.state IN ('present', 'evicting'))"
    );
    let adopted = ADOPT.insert(
        "object_id, store, etag, storage_class, verified_at, key_id, envelope",
        &select,
        &ADOPT.on_conflict("", "true"),
    );
    // The lock of the object excludes its removal until the row is visible.
    let sql = format!(
        "WITH before AS MATERIALIZED ( \
             SELECT r.state, r.upload_id FROM replicas r WHERE r.object_id = {object} AND r.store = {store} \
         ), stored AS MATERIALIZED ( \
             SELECT 1 FROM objects o WHERE o.id = {object} AND o.state = 'stored' FOR SHARE \
         ), adopted AS ({adopted} RETURNING r.object_id, r.store), homes AS ( \
             UPDATE files f SET storage_location = a.store, \
                    synced_at = CASE WHEN a.store = ANY({primary_stores}) THEN now() END \
             FROM adopted a JOIN file_versions v ON v.object_id = a.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number AND (a.store = ANY({primary_stores}) OR NOT {}) \
         ), forgotten AS ( \
             DELETE FROM transfer_parts p USING adopted a WHERE p.object_id = a.object_id AND p.store = a.store \
         ) SELECT b.state IS NULL AS is_new, b.upload_id FROM adopted a LEFT JOIN before b ON true",
        has_verified("a.object_id", &format!("s.store = ANY({primary_stores})"))
    );
    Ok(values.query(&sql).get_result(conn).await.optional()?)
}
