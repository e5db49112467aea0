//! Rows of many files, without content, for tests of what statements cost. They are inserted once per process into a
//! template database, which each such test copies: with all triggers, inserting them takes many times longer.

use nightferry_core::db::Database;
use nightferry_core::ids::UserId;

use super::database;

/// Files in a template.
pub const FILES: i64 = 30_000;

/// Which stores the files of a template are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalogue {
    /// In `minio` only.
    Uploaded,
    /// In `minio` and `s3`, evictable for up to two days.
    Synced,
}

impl Catalogue {
    /// The name of the template.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded_files",
            Self::Synced => "synced_files",
        }
    }

    /// Inserts the files numbered `numbers` for `owner`. File `n` is named `k<n>` and has a size of `n` bytes; every third
    /// is a video, the others are texts.
    pub async fn insert(self, db: &Database, owner: UserId, numbers: std::ops::RangeInclusive<i64>) {
        let (first, last) = (numbers.start(), numbers.end());
        let stores = match self {
            Self::Uploaded => "ARRAY['minio']",
            Self::Synced => "ARRAY['minio', 's3']",
        };
        let evictable = self == Self::Synced;
        let insert = format!(
            "WITH made AS ( \
                 INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
                 SELECT id, '{owner}', 'user-{owner}/' || id || '-x', 'stored', \
                        CASE WHEN n % 3 = 0 THEN 'video/mp4' ELSE 'text/plain' END, n, sha256(id::text::bytea), \
                        substring(sha256(id::text::bytea) FOR 8), 'minio', now() - interval '1 day' * (n % 100) \
                 FROM (SELECT gen_random_uuid() AS id, n FROM generate_series({first}, {last}) n) g RETURNING *), \
             files AS ( \
                 INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, \
                                    content_type, storage_location) \
                 SELECT m.id, m.owner_id, d.id, 'k' || m.size, 'k' || m.size, 1, m.size, m.content_type, 'minio' \
                 FROM made m JOIN folders d ON d.owner_id = m.owner_id AND d.parent_id IS NULL RETURNING id, owner_id), \
             versions AS ( \
                 INSERT INTO file_versions (file_id, number, object_id, created_by) SELECT id, 1, id, owner_id FROM files) \
             INSERT INTO replicas (object_id, store, state, verified_at, rule, last_used_at, spare_since) \
             SELECT id, store, 'present', now() - interval '2 days', \
                    CASE store WHEN 'minio' THEN 'upload' ELSE 'default' END, now() - interval '1 day' * random(), \
                    CASE WHEN {evictable} AND store = 'minio' THEN now() - interval '2 days' * random() END \
             FROM made, unnest({stores}) AS store"
        );
        for sql in [insert.as_str(), "ANALYZE"] {
            database::execute(db, sql).await.unwrap();
        }
    }
}
