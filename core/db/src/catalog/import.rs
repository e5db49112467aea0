//! Creates rows for objects that the catalogue does not know: accounts, folders, files, versions. Set-based; only name
//! collisions are resolved one by one.

use diesel::prelude::*;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::error::Result;
use crate::replicas::Count;

/// The number of created rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportedRows {
    /// Accounts, disabled.
    pub users: u64,
    /// Folders.
    pub folders: u64,
    /// Objects.
    pub objects: u64,
    /// Files.
    pub files: u64,
    /// Versions.
    pub versions: u64,
    /// Files whose name was already used in their folder.
    pub renamed: u64,
}

pub(super) async fn run(conn: &mut AsyncPgConnection, sql: &str) -> Result<u64> {
    let rows = diesel::sql_query(sql).execute(conn).await?;
    Ok(u64::try_from(rows).unwrap_or(u64::MAX))
}

/// Creates rows from the observations recorded by [`super::record_observed`]. `password_hash` is for accounts of which only
/// the id is known: it must not match any password. `rename` derives an alternative name, with a counter starting at 1.
pub async fn import_rows(
    conn: &mut AsyncPgConnection,
    password_hash: &str,
    rename: impl Fn(&str, u32) -> String + Send + Sync,
) -> Result<ImportedRows> {
    choose(conn).await?;
    let users = make_users(conn, password_hash).await?;
    let folders = make_folders(conn).await?;
    let objects = run(conn, OBJECTS).await?;
    let mut imported = ImportedRows { users, folders, objects, ..ImportedRows::default() };
    // Objects whose metadata names their file first: others may be later versions of the same file.
    for sql in [WITHOUT_CONTRADICTIONS, ONLY_WITH_A_FILE] {
        run(conn, sql).await?;
    }
    make_files(conn, &rename, &mut imported).await?;
    for sql in [LATER_VERSIONS, NEW_FILES] {
        run(conn, sql).await?;
    }
    make_files(conn, &rename, &mut imported).await?;
    Ok(imported)
}

/// One set of metadata for each unknown object: if stores differ, the more complete one. The content is that of the copy
/// whose checksums are most certainly those of the upload, in whatever store it is.
async fn choose(conn: &mut AsyncPgConnection) -> Result<()> {
    for sql in [
        "ANALYZE catalog_seen",
        "CREATE TEMP TABLE catalog_new ON COMMIT DROP AS \
         SELECT DISTINCT ON (s.key, s.ordinal) s.* FROM catalog_seen s \
         WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.key = s.key) \
           AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.id = s.object_id) \
         ORDER BY s.key, s.ordinal, (s.file_id IS NULL), s.at, s.store",
        "UPDATE catalog_new n SET size = b.size, sha256 = b.sha256, crc64nvme = b.crc64nvme, block_crcs = b.block_crcs, \
                content_type = b.content_type, store = b.store \
         FROM ( \
             SELECT DISTINCT ON (s.key) s.* FROM catalog_seen s WHERE s.ordinal = 0 \
             ORDER BY s.key, s.certainty DESC, (s.block_crcs IS NULL), s.at, s.store \
         ) b WHERE b.key = n.key",
        "CREATE INDEX ON catalog_new (object_id)",
        "CREATE INDEX ON catalog_new (key)",
        "DELETE FROM catalog_new a USING catalog_new b WHERE a.object_id = b.object_id AND a.key > b.key",
        "ANALYZE catalog_new",
    ] {
        run(conn, sql).await?;
    }
    Ok(())
}

async fn make_users(conn: &mut AsyncPgConnection, password_hash: &str) -> Result<u64> {
    let made = diesel::sql_query(
        "WITH named AS ( \
             SELECT DISTINCT ON (n.owner_id) n.owner_id, n.email, min(n.at) OVER (PARTITION BY n.owner_id) AS first \
             FROM catalog_new n WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = n.owner_id) \
             ORDER BY n.owner_id, (n.email IS NULL), n.at DESC \
         ), ranked AS ( \
             SELECT *, row_number() OVER (PARTITION BY lower(email) ORDER BY first, owner_id) AS place FROM named \
         ) INSERT INTO users (id, email, password_hash, role, disabled_at, created_at, updated_at) \
         SELECT owner_id, CASE WHEN email IS NOT NULL AND place = 1 \
                    AND NOT EXISTS (SELECT 1 FROM users u WHERE lower(u.email) = lower(ranked.email)) \
                THEN email ELSE 'recovered-' || owner_id || '@nightferry.invalid' END, \
                $1, 'user', now(), first, first FROM ranked",
    )
    .bind::<Text, _>(password_hash)
    .execute(conn)
    .await?;
    run(
        conn,
        "INSERT INTO folders (id, owner_id, name, created_at, updated_at) \
         SELECT gen_random_uuid(), u.id, '', u.created_at, u.created_at FROM users u \
         WHERE NOT EXISTS (SELECT 1 FROM folders f WHERE f.owner_id = u.id AND f.parent_id IS NULL)",
    )
    .await?;
    Ok(u64::try_from(made).unwrap_or(u64::MAX))
}

/// Level by level from the root.
async fn make_folders(conn: &mut AsyncPgConnection) -> Result<u64> {
    run(
        conn,
        "UPDATE catalog_new n SET folder_id = f.id FROM folders f WHERE f.owner_id = n.owner_id AND f.parent_id IS NULL",
    )
    .await?;
    let row: Count =
        diesel::sql_query("SELECT coalesce(max(cardinality(folder)), 0)::bigint AS count FROM catalog_new")
            .get_result(conn)
            .await?;
    let mut made = 0;
    for depth in 1..=row.count {
        made += run(
            conn,
            &format!(
                "INSERT INTO folders (id, owner_id, parent_id, name, created_at, updated_at) \
                 SELECT gen_random_uuid(), n.owner_id, n.folder_id, n.folder[{depth}], min(n.at), min(n.at) \
                 FROM catalog_new n WHERE cardinality(n.folder) >= {depth} AND NOT EXISTS ( \
                     SELECT 1 FROM folders f WHERE f.parent_id = n.folder_id AND f.name = n.folder[{depth}] \
                       AND f.deleted_at IS NULL) \
                 GROUP BY n.owner_id, n.folder_id, n.folder[{depth}]"
            ),
        )
        .await?;
        run(
            conn,
            &format!(
                "UPDATE catalog_new n SET folder_id = f.id FROM folders f \
                 WHERE cardinality(n.folder) >= {depth} AND f.parent_id = n.folder_id \
                   AND f.name = n.folder[{depth}] AND f.deleted_at IS NULL"
            ),
        )
        .await?;
    }
    Ok(made)
}

const OBJECTS: &str = "INSERT INTO objects \
     (id, owner_id, key, state, content_type, size, sha256, crc64nvme, block_crcs, upload_store, created_at, stored_at) \
     SELECT object_id, owner_id, key, 'stored', content_type, size, decode(sha256, 'hex'), decode(crc64nvme, 'hex'), \
            decode(block_crcs, 'hex'), store, at, at FROM catalog_new WHERE ordinal = 0";

/// If the metadata names a version that is taken, or another account's file, only the rest of it is used.
const WITHOUT_CONTRADICTIONS: &str = "UPDATE catalog_new n SET file_id = NULL, version = NULL FROM ( \
         SELECT key, ordinal, row_number() OVER (PARTITION BY file_id, version ORDER BY at, key, ordinal) AS place, \
                first_value(owner_id) OVER (PARTITION BY file_id ORDER BY at, key, ordinal) AS first_owner \
         FROM catalog_new WHERE file_id IS NOT NULL \
     ) p WHERE p.key = n.key AND p.ordinal = n.ordinal AND n.file_id IS NOT NULL \
       AND (p.place > 1 OR p.first_owner <> n.owner_id \
         OR EXISTS (SELECT 1 FROM files f WHERE f.id = n.file_id AND f.owner_id <> n.owner_id) \
         OR EXISTS (SELECT 1 FROM file_versions v WHERE v.file_id = n.file_id AND v.number = n.version))";

const ONLY_WITH_A_FILE: &str = "DELETE FROM catalog_new WHERE ordinal > 0 AND file_id IS NULL";

/// An object without a file in its metadata is a later version of the file with its name, if it is later.
const LATER_VERSIONS: &str = "UPDATE catalog_new n SET file_id = x.id, version = x.version FROM ( \
         SELECT n.key, f.id, (row_number() OVER (PARTITION BY f.id ORDER BY n.at, n.key) \
                + (SELECT max(v.number) FROM file_versions v WHERE v.file_id = f.id))::integer AS version \
         FROM catalog_new n JOIN files f ON f.folder_id = n.folder_id AND f.filename = n.name \
           AND f.deleted_at IS NULL AND f.owner_id = n.owner_id AND f.uploaded_at <= n.at \
         WHERE n.file_id IS NULL \
     ) x WHERE x.key = n.key AND n.file_id IS NULL";

/// The remaining objects: each name becomes a file, its objects become versions in the order of their time. The id of
/// the first object also serves as the id of the file.
const NEW_FILES: &str = "UPDATE catalog_new n SET file_id = x.id, version = x.version FROM ( \
         SELECT key, first_value(object_id) OVER w AS id, (row_number() OVER w)::integer AS version \
         FROM catalog_new WHERE file_id IS NULL \
         WINDOW w AS (PARTITION BY owner_id, folder_id, name ORDER BY at, key) \
     ) x WHERE x.key = n.key AND n.file_id IS NULL";

/// Creates the files and versions for objects that have been assigned to a file and are not recorded yet.
async fn make_files(
    conn: &mut AsyncPgConnection,
    rename: &(impl Fn(&str, u32) -> String + Sync),
    imported: &mut ImportedRows,
) -> Result<()> {
    for sql in [
        "DROP TABLE IF EXISTS catalog_files",
        "CREATE TEMP TABLE catalog_files ON COMMIT DROP AS \
         SELECT t.file_id AS id, t.owner_id, t.folder_id, t.name, t.original, t.version, t.content_type, t.size, t.store, \
                t.at AS uploaded_at, s.first AS created_at \
         FROM ( \
             SELECT DISTINCT ON (n.file_id) n.* FROM catalog_new n \
             WHERE n.file_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM files f WHERE f.id = n.file_id) \
             ORDER BY n.file_id, n.version DESC \
         ) t JOIN (SELECT file_id, min(at) AS first FROM catalog_new GROUP BY file_id) s ON s.file_id = t.file_id",
        "CREATE INDEX ON catalog_files (folder_id, name)",
        "CREATE INDEX ON catalog_files (id)",
        "ANALYZE catalog_files",
    ] {
        run(conn, sql).await?;
    }
    resolve_names(conn, rename, imported).await?;
    imported.files += run(
        conn,
        "INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, content_type, \
                            storage_location, uploaded_at, created_at, updated_at) \
         SELECT id, owner_id, folder_id, name, original, version, size, content_type, store, uploaded_at, created_at, \
                uploaded_at FROM catalog_files",
    )
    .await?;
    imported.versions += run(
        conn,
        "INSERT INTO file_versions (file_id, number, object_id, created_by, created_at) \
         SELECT file_id, version, object_id, owner_id, at FROM catalog_new WHERE file_id IS NOT NULL \
         ON CONFLICT DO NOTHING",
    )
    .await?;
    run(
        conn,
        "UPDATE files f SET current_version = t.version, file_size = t.size, content_type = t.content_type, \
                uploaded_at = t.at, updated_at = greatest(f.updated_at, t.at), synced_at = NULL, \
                scan_status = 'unscanned', storage_location = t.store \
         FROM (SELECT DISTINCT ON (file_id) * FROM catalog_new WHERE file_id IS NOT NULL ORDER BY file_id, version DESC) t \
         WHERE f.id = t.file_id AND t.version > f.current_version",
    )
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Collision {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    folder_id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
}

/// If several files have the same name in one folder, the latest keeps it: the others were in the trash, or had another
/// name.
async fn resolve_names(
    conn: &mut AsyncPgConnection,
    rename: &(impl Fn(&str, u32) -> String + Sync),
    imported: &mut ImportedRows,
) -> Result<()> {
    loop {
        let collisions: Vec<Collision> = diesel::sql_query(
            "SELECT c.id, c.folder_id, c.name FROM ( \
                 SELECT id, folder_id, name, \
                        row_number() OVER (PARTITION BY folder_id, name ORDER BY uploaded_at DESC, id) AS place \
                 FROM catalog_files \
             ) c WHERE c.place > 1 OR EXISTS (SELECT 1 FROM files f WHERE f.folder_id = c.folder_id \
                 AND f.filename = c.name AND f.deleted_at IS NULL) ORDER BY c.id LIMIT 1000",
        )
        .load(conn)
        .await?;
        if collisions.is_empty() {
            return Ok(());
        }
        for collision in collisions {
            resolve_name(conn, &collision, rename).await?;
            imported.renamed += 1;
        }
    }
}

async fn resolve_name(
    conn: &mut AsyncPgConnection,
    file: &Collision,
    rename: &(impl Fn(&str, u32) -> String + Sync),
) -> Result<()> {
    for number in 1..=u32::MAX {
        let changed = diesel::sql_query(
            "UPDATE catalog_files SET name = $1 WHERE id = $2 \
               AND NOT EXISTS (SELECT 1 FROM catalog_files c WHERE c.folder_id = $3 AND c.name = $1) \
               AND NOT EXISTS (SELECT 1 FROM files f WHERE f.folder_id = $3 AND f.filename = $1 \
                               AND f.deleted_at IS NULL)",
        )
        .bind::<Text, _>(rename(&file.name, number))
        .bind::<SqlUuid, _>(file.id)
        .bind::<SqlUuid, _>(file.folder_id)
        .execute(conn)
        .await?;
        if changed > 0 {
            break;
        }
    }
    Ok(())
}
