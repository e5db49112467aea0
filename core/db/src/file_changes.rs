//! Changes of the row of a file: name, folder, pin, and time of the last read.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as Diesel};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::replicas::UPDATE_PRESENT;
use super::schema::files;
use super::statement::{Value, Values};
use crate::error::{Error, Result};
use crate::ids::{FileId, FolderId, ObjectId, UserId};

/// The changes. `None` leaves a value unchanged.
#[derive(Debug, Clone, Default, AsChangeset)]
#[diesel(table_name = files)]
pub struct FileChange {
    /// Name.
    pub filename: Option<String>,
    /// Folder it is in.
    pub folder_id: Option<FolderId>,
    /// Whether its local copies are kept.
    pub pinned: Option<bool>,
}

/// Changes a live file. Returns whether it exists.
///
/// # Errors
/// [`Error::NameTaken`] if the folder has a live file with this name.
pub async fn change(
    conn: &mut AsyncPgConnection,
    id: FileId,
    owner: Option<UserId>,
    change: &FileChange,
) -> Result<bool> {
    let mut live = files::table.find(id).filter(files::deleted_at.is_null()).into_boxed();
    if let Some(owner) = owner {
        live = live.filter(files::owner_id.eq(owner));
    }
    let ids = live.select(files::id);
    let changed = diesel::update(files::table.filter(files::id.eq_any(ids)))
        .set((change, files::updated_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await;
    match changed {
        Ok(changed) => Ok(changed == 1),
        Err(Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            Err(Error::NameTaken(change.filename.clone().unwrap_or_default()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A read of a file.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// File.
    pub file: FileId,
    /// Object of the version.
    pub object: ObjectId,
    /// When.
    pub at: DateTime<Utc>,
}

/// Records when files and their copies in the stores `locals` were last read: one statement for all of them, and at
/// most one update per row and hour. Locked rows are skipped: the update is not worth waiting for.
pub async fn record_accesses(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    accesses: &[Access],
) -> Result<()> {
    let files: Vec<FileId> = accesses.iter().map(|access| access.file).collect();
    let objects: Vec<ObjectId> = accesses.iter().map(|access| access.object).collect();
    let times: Vec<DateTime<Utc>> = accesses.iter().map(|access| access.at).collect();
    let mut values = Values::default();
    let (files, objects) = (values.ids(&files), values.ids(&objects));
    let (times, locals) = (values.bind(Value::Times(times)), values.texts(locals));
    let noted = UPDATE_PRESENT.update(
        "last_used_at = c.at, spare_since = CASE \
             WHEN r.spare_since < c.at AND r.copy_reason IN ('prefetch', 'cache-on-read') THEN c.at ELSE r.spare_since END",
        "FROM read_copies c",
        "r.object_id = c.object_id AND r.store = c.store",
    );
    let sql = format!(
        "WITH seen AS ( \
             SELECT * FROM unnest({files}, {objects}, {times}) AS s (file_id, object_id, at) \
         ), read_files AS ( \
             SELECT f.id, s.at FROM files f \
             JOIN (SELECT file_id, max(at) AS at FROM seen GROUP BY file_id) s ON s.file_id = f.id \
             WHERE f.last_accessed_at IS NULL OR f.last_accessed_at < s.at - interval '1 hour' \
             FOR UPDATE OF f SKIP LOCKED \
         ), noted AS ( \
             UPDATE files f SET last_accessed_at = r.at FROM read_files r WHERE f.id = r.id \
         ), read_copies AS ( \
             SELECT r.object_id, r.store, s.at FROM replicas r \
             JOIN (SELECT object_id, max(at) AS at FROM seen GROUP BY object_id) s ON s.object_id = r.object_id \
             WHERE r.store = ANY({locals}) AND r.state = 'present' AND r.last_used_at < s.at - interval '1 hour' \
             FOR UPDATE OF r SKIP LOCKED \
         ) {noted}"
    );
    values.query(&sql).execute(conn).await?;
    Ok(())
}
