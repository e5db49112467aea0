//! The end of uploads that create new files, many in one statement.

use diesel::prelude::*;
use diesel::sql_types::{Bool, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::checksum::ObjectDigest;
use crate::error::Result;
use crate::files::NewVersion;
use crate::ids::{FileId, ObjectId};
use crate::prepared::Prepared;
use crate::replicas::UPLOAD;
use crate::statement::{Value, Values};

/// An upload whose content is stored and verified.
#[derive(Debug)]
pub struct StoredUpload<'a> {
    /// Id of the file to create.
    pub file: FileId,
    /// Its first version.
    pub version: NewVersion<'a>,
    /// What was stored.
    pub digest: &'a ObjectDigest,
    /// As returned by the store.
    pub etag: &'a str,
}

#[derive(QueryableByName)]
struct Created {
    #[diesel(sql_type = SqlUuid)]
    id: FileId,
    #[diesel(sql_type = Bool)]
    is_whole: bool,
}

/// Creates a file for each upload whose name is unused, and charges the bytes to its owner: what
/// [`crate::objects::finish_upload`], [`crate::users::book_bytes`] and [`crate::files::insert`] do one by one. Returns the created
/// files; nothing is changed for the other uploads. `None` if an upload was abandoned or a quota is exceeded: then
/// the caller must roll back, and record them one by one.
pub async fn create_files(
    conn: &mut AsyncPgConnection,
    uploads: &[StoredUpload<'_>],
) -> Result<Option<Vec<FileId>>> {
    let mut values = Values::default();
    let versions = || uploads.iter().map(|upload| &upload.version);
    let files: Vec<FileId> = uploads.iter().map(|upload| upload.file).collect();
    let owners: Vec<_> = versions().map(|version| version.owner_id).collect();
    let folders: Vec<_> = versions().map(|version| version.folder_id).collect();
    let names: Vec<&str> = versions().map(|version| version.filename).collect();
    let types: Vec<&str> = versions().map(|version| version.content_type).collect();
    let objects: Vec<ObjectId> = versions().map(|version| version.object_id).collect();
    let stores: Vec<&str> = versions().map(|version| version.store).collect();
    let etags: Vec<&str> = uploads.iter().map(|upload| upload.etag).collect();
    let digests = || uploads.iter().map(|upload| upload.digest);
    let hashes = digests().map(|digest| Some(digest.sha256.as_bytes().to_vec())).collect();
    let crcs = digests().map(|digest| Some(digest.crc64nvme.as_u64().to_be_bytes().to_vec())).collect();
    let blocks = digests().map(|digest| Some(digest.blocks.to_bytes())).collect();
    let columns = [
        values.ids(&files),
        values.ids(&owners),
        values.ids(&folders),
        values.texts(&names),
        values.texts(&types),
        values.bind(Value::Numbers(versions().map(|version| version.size).collect())),
        values.ids(&objects),
        values.texts(&stores),
        values.texts(&etags),
        values.bind(Value::NullableBytes(hashes)),
        values.bind(Value::NullableBytes(crcs)),
        values.bind(Value::NullableBytes(blocks)),
    ]
    .join(", ");
    let copies = UPLOAD.insert(
        "object_id, store, etag, rule, verified_at",
        "SELECT object_id, store, etag, 'upload', now() FROM stored",
        "",
    );
    // Names and accounts are locked in order, so that concurrent batches do not wait for each other in a circle. The rows
    // of the accounts are locked last, and only until the commit.
    let sql = format!(
        "WITH wanted AS MATERIALIZED ( \
             SELECT * FROM unnest({columns}) AS w (file_id, owner_id, folder_id, filename, content_type, size, object_id, \
                                                   store, etag, sha256, crc64nvme, block_crcs) \
         ), named AS ( \
             INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, \
                                content_type, storage_location) \
             SELECT file_id, owner_id, folder_id, filename, filename, 1, size, content_type, store FROM wanted \
             ORDER BY folder_id, filename ON CONFLICT DO NOTHING RETURNING id \
         ), stored AS ( \
             UPDATE objects o SET state = 'stored', size = w.size, sha256 = w.sha256, crc64nvme = w.crc64nvme, \
                 block_crcs = w.block_crcs, upload_id = NULL, upload_expires_at = NULL, stored_at = now() \
             FROM wanted w JOIN named n ON n.id = w.file_id WHERE o.id = w.object_id AND o.state = 'uploading' \
             RETURNING w.file_id, w.object_id, w.owner_id, w.size, w.store, w.etag \
         ), versions AS ( \
             INSERT INTO file_versions (file_id, number, object_id, created_by) \
             SELECT file_id, 1, object_id, owner_id FROM stored \
         ), copies AS ({copies}), owners AS ( \
             SELECT owner_id, sum(size)::bigint AS bytes FROM stored GROUP BY owner_id \
         ), locked AS ( \
             SELECT u.id FROM users u WHERE u.id IN (SELECT owner_id FROM owners) ORDER BY u.id FOR NO KEY UPDATE \
         ), booked AS ( \
             UPDATE users u SET used_bytes = u.used_bytes + w.bytes FROM owners w JOIN locked l ON l.id = w.owner_id \
             WHERE u.id = w.owner_id \
               AND (w.bytes = 0 OR u.quota_bytes IS NULL OR u.used_bytes + w.bytes <= u.quota_bytes) \
             RETURNING u.id \
         ) SELECT n.id, (SELECT count(*) FROM named) = (SELECT count(*) FROM stored) \
                    AND (SELECT count(*) FROM owners) = (SELECT count(*) FROM booked) AS is_whole FROM named n"
    );
    let created: Vec<Created> = Prepared(values.query(&sql)).load(conn).await?;
    let is_whole = created.iter().all(|row| row.is_whole);
    Ok(is_whole.then(|| created.into_iter().map(|row| row.id).collect()))
}
