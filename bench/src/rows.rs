//! Rows of files as created by uploads, in few statements: for databases of a size that is not practical to upload.

use nightferry_core::ids::UserId;

/// The id of file number `n`, increasing with time like ids in production. `salt` distinguishes the tables.
fn id(salt: &str) -> String {
    format!("(lpad(to_hex(1790000000000 + n), 12, '0') || '70008000' || left(md5('{salt}' || n), 12))::uuid")
}

/// The id of the object of file number `n`.
pub(crate) fn object() -> String {
    id("o")
}

/// Statements that insert the files with these numbers, each with one version of 16 KiB in the local store. Foreign
/// keys are valid by construction: checking them row by row would take most of the time.
pub(crate) fn files(user: UserId, first: u32, last: u32) -> Vec<String> {
    let (object, file) = (object(), id("f"));
    let from = format!("FROM generate_series({first}, {last}) n");
    let key = format!("'user-{user}/' || {object} || '-file-' || n || '.bin'");
    vec![
        "SET session_replication_role = replica".to_owned(),
        format!(
            "INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT {object}, '{user}', {key}, 'stored', 'application/octet-stream', 16384, \
                    sha256(n::text::bytea), decode(lpad(to_hex(n), 16, '0'), 'hex'), 'minio', now() {from}"
        ),
        format!(
            "INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, \
                                content_type, storage_location) \
             SELECT {file}, '{user}', (SELECT id FROM folders WHERE owner_id = '{user}'), 'file-' || n || '.bin', \
                    'file-' || n || '.bin', 1, 16384, 'application/octet-stream', 'minio' {from}"
        ),
        format!(
            "INSERT INTO file_versions (file_id, number, object_id, created_by) SELECT {file}, 1, {object}, '{user}' {from}"
        ),
        format!(
            "INSERT INTO replicas (object_id, store, state, verified_at) SELECT {object}, 'minio', 'present', now() {from}"
        ),
    ]
}

/// Does the work of autovacuum, and counts the rows, because triggers do not fire while they are inserted.
pub(crate) fn settle() -> Vec<String> {
    let counts = "INSERT INTO replica_counts (store, state, is_verified, is_suspect, replicas, bytes) \
                  SELECT r.store, r.state, r.verified_at IS NOT NULL, r.state = 'lost' AND r.suspect_since IS NOT NULL, \
                         count(*), coalesce(sum(o.size), 0) \
                  FROM replicas r JOIN objects o ON o.id = r.object_id GROUP BY 1, 2, 3, 4";
    let statements = [
        "DELETE FROM replica_count_changes",
        "DELETE FROM replica_counts",
        counts,
        "VACUUM ANALYZE",
        "CHECKPOINT",
    ];
    statements.map(str::to_owned).to_vec()
}
