//! The `files` and `file_versions` tables: names, versions and keyset lists.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::{file_versions, files, objects};
use crate::error::Result;
use crate::ids::{FileId, FolderId, ObjectId, UserId};

/// A file with its current version.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = files, check_for_backend(Pg))]
pub struct FileRow {
    /// Id.
    pub id: FileId,
    /// Owner.
    pub owner_id: UserId,
    /// Folder it is in.
    pub folder_id: FolderId,
    /// Name.
    pub filename: String,
    /// Name at upload, as sent by the client.
    pub original_filename: String,
    /// Number of the current version.
    pub current_version: i32,
    /// Size of the current version, in bytes.
    pub file_size: i64,
    /// MIME type of the current version.
    pub content_type: String,
    /// Name of the store that is the primary location.
    pub storage_location: String,
    /// When the cloud copy of the current version was verified.
    pub synced_at: Option<DateTime<Utc>>,
    /// Outcome of the malware scan.
    pub scan_status: String,
    /// If set, local copies are never evicted.
    pub pinned: bool,
    /// Time of the last download.
    pub last_accessed_at: Option<DateTime<Utc>>,
    /// When the current version was uploaded.
    pub uploaded_at: DateTime<Utc>,
    /// When the file was created.
    pub created_at: DateTime<Utc>,
    /// When the file was last changed.
    pub updated_at: DateTime<Utc>,
    /// When the file was moved to the trash.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// A file, the object of its current version and that object's SHA-256.
pub type FileWithObject = (FileRow, ObjectId, Option<Vec<u8>>);

/// The object behind one version of a file.
#[derive(Debug, Clone, Queryable)]
pub struct VersionObject {
    /// Object.
    pub object_id: ObjectId,
    /// Key in every store.
    pub key: String,
    /// Size in bytes.
    pub size: Option<i64>,
    /// SHA-256.
    pub sha256: Option<Vec<u8>>,
    /// MIME type.
    pub content_type: String,
    /// When it was uploaded.
    pub created_at: DateTime<Utc>,
}

/// The new version of a file.
#[derive(Debug, Clone)]
pub struct NewVersion<'a> {
    /// Owner of the file.
    pub owner_id: UserId,
    /// The uploading account.
    pub created_by: UserId,
    /// Folder.
    pub folder_id: FolderId,
    /// Name.
    pub filename: &'a str,
    /// Name as sent by the client.
    pub original_filename: &'a str,
    /// Object with the content.
    pub object_id: ObjectId,
    /// Size in bytes.
    pub size: i64,
    /// MIME type.
    pub content_type: &'a str,
    /// Store with the content.
    pub store: &'a str,
}

/// Inserts a file with an unused name. Returns `None` if a live file has the name.
pub async fn insert(conn: &mut AsyncPgConnection, new: &NewVersion<'_>) -> Result<Option<FileId>> {
    let id = FileId::new();
    let inserted = diesel::insert_into(files::table)
        .values((
            files::id.eq(id),
            files::owner_id.eq(new.owner_id),
            files::folder_id.eq(new.folder_id),
            files::filename.eq(new.filename),
            files::original_filename.eq(new.original_filename),
            files::current_version.eq(1),
            files::file_size.eq(new.size),
            files::content_type.eq(new.content_type),
            files::storage_location.eq(new.store),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    if inserted == 0 {
        return Ok(None);
    }
    insert_version(conn, id, 1, new).await?;
    Ok(Some(id))
}

/// Adds a version to the live file with this name. Returns `None` if there is no such file.
pub async fn add_version(conn: &mut AsyncPgConnection, new: &NewVersion<'_>) -> Result<Option<FileId>> {
    let found: Option<FileId> = files::table
        .filter(files::folder_id.eq(new.folder_id))
        .filter(files::filename.eq(new.filename))
        .filter(files::deleted_at.is_null())
        .select(files::id)
        .for_update()
        .first(conn)
        .await
        .optional()?;
    let Some(id) = found else { return Ok(None) };
    let highest: Option<i32> = file_versions::table
        .filter(file_versions::file_id.eq(id))
        .select(diesel::dsl::max(file_versions::number))
        .first(conn)
        .await?;
    let number = highest.unwrap_or(0).saturating_add(1);
    insert_version(conn, id, number, new).await?;
    diesel::update(files::table.find(id))
        .set((
            files::current_version.eq(number),
            files::file_size.eq(new.size),
            files::content_type.eq(new.content_type),
            files::storage_location.eq(new.store),
            files::synced_at.eq(None::<DateTime<Utc>>),
            files::scan_status.eq("unscanned"),
            files::uploaded_at.eq(diesel::dsl::now),
            files::updated_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    Ok(Some(id))
}

async fn insert_version(
    conn: &mut AsyncPgConnection,
    file: FileId,
    number: i32,
    new: &NewVersion<'_>,
) -> Result<()> {
    diesel::insert_into(file_versions::table)
        .values((
            file_versions::file_id.eq(file),
            file_versions::number.eq(number),
            file_versions::object_id.eq(new.object_id),
            file_versions::created_by.eq(new.created_by),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Finds a file of an owner, including files in the trash.
pub async fn find(
    conn: &mut AsyncPgConnection,
    id: FileId,
    owner: Option<UserId>,
) -> Result<Option<FileWithObject>> {
    let mut query = with_object().filter(files::id.eq(id)).into_boxed();
    if let Some(owner) = owner {
        query = query.filter(files::owner_id.eq(owner));
    }
    Ok(query.first(conn).await.optional()?)
}

/// Files with the given ids, including files in the trash.
pub async fn of_ids(conn: &mut AsyncPgConnection, ids: &[FileId]) -> Result<Vec<FileWithObject>> {
    Ok(with_object().filter(files::id.eq_any(ids)).load(conn).await?)
}

/// The object of a version of a live file: the current one, or the one with this number.
pub async fn version_object(
    conn: &mut AsyncPgConnection,
    id: FileId,
    owner: Option<UserId>,
    number: Option<i32>,
) -> Result<Option<(FileRow, VersionObject)>> {
    let mut query = files::table
        .inner_join(file_versions::table.on(file_versions::file_id.eq(files::id)))
        .inner_join(objects::table.on(objects::id.eq(file_versions::object_id)))
        .filter(files::id.eq(id))
        .filter(files::deleted_at.is_null())
        .select((
            FileRow::as_select(),
            (
                objects::id,
                objects::key,
                objects::size,
                objects::sha256,
                objects::content_type,
                file_versions::created_at,
            ),
        ))
        .into_boxed();
    if let Some(owner) = owner {
        query = query.filter(files::owner_id.eq(owner));
    }
    query = match number {
        Some(number) => query.filter(file_versions::number.eq(number)),
        None => query.filter(file_versions::number.eq(files::current_version)),
    };
    Ok(query.first(conn).await.optional()?)
}

/// Moves a live file to the trash. Returns whether it exists.
pub async fn trash(conn: &mut AsyncPgConnection, id: FileId, owner: UserId) -> Result<bool> {
    let changed = diesel::update(
        files::table.find(id).filter(files::owner_id.eq(owner)).filter(files::deleted_at.is_null()),
    )
    .set((files::deleted_at.eq(diesel::dsl::now), files::updated_at.eq(diesel::dsl::now)))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Deletes a file and its versions permanently. Returns their objects and the bytes charged for them, or `None` if
/// there is no such file.
pub async fn purge(
    conn: &mut AsyncPgConnection,
    id: FileId,
    owner: UserId,
) -> Result<Option<(Vec<ObjectId>, i64)>> {
    let locked: Option<FileId> = files::table
        .find(id)
        .filter(files::owner_id.eq(owner))
        .select(files::id)
        .for_update()
        .first(conn)
        .await
        .optional()?;
    if locked.is_none() {
        return Ok(None);
    }
    let versions: Vec<(ObjectId, Option<i64>)> = file_versions::table
        .inner_join(objects::table)
        .filter(file_versions::file_id.eq(id))
        .select((objects::id, objects::size))
        .load(conn)
        .await?;
    diesel::delete(files::table.find(id)).execute(conn).await?;
    let bytes = versions.iter().filter_map(|(_, size)| *size).sum();
    Ok(Some((versions.into_iter().map(|(object, _)| object).collect(), bytes)))
}

/// The sort key of a list, with the value after which the next page starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListOrder {
    /// By name.
    Name(Option<String>),
    /// By size in bytes.
    Size(Option<i64>),
    /// By the time of the current version's upload.
    UploadedAt(Option<DateTime<Utc>>),
}

/// Filters for files.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Owner.
    pub owner: UserId,
    /// Folder; `None`: any.
    pub folder: Option<FolderId>,
    /// Part of the name, case-insensitive.
    pub name_contains: Option<String>,
    /// Primary store.
    pub location: Option<String>,
    /// MIME type; `image/*` for all of a type.
    pub content_type: Option<String>,
    /// Files in the trash instead of live files.
    pub trashed: bool,
    /// Order, and the first half of the start position.
    pub order: ListOrder,
    /// Largest first.
    pub descending: bool,
    /// Second half of the start position.
    pub after: Option<FileId>,
    /// Maximum number of rows.
    pub limit: i64,
}

/// One page of a list, read from the index of its order.
pub async fn list(conn: &mut AsyncPgConnection, wanted: &ListQuery) -> Result<Vec<FileWithObject>> {
    let mut query =
        with_object().filter(files::owner_id.eq(wanted.owner)).limit(wanted.limit).into_boxed::<'_, Pg>();
    query = if wanted.trashed {
        query.filter(files::deleted_at.is_not_null())
    } else {
        query.filter(files::deleted_at.is_null())
    };
    if let Some(folder) = wanted.folder {
        query = query.filter(files::folder_id.eq(folder));
    }
    if let Some(part) = &wanted.name_contains {
        // diesel does not keep a statement with a literal prepared, so Postgres plans this one for the actual part of the name.
        // A plan for any part would always read the list instead of the index of trigrams.
        let pattern = format!("%{}%", escape_like(part));
        query = query.filter(sql::<Bool>("files.filename ILIKE ").bind::<Text, _>(pattern));
    }
    if let Some(location) = &wanted.location {
        query = query.filter(files::storage_location.eq(location));
    }
    if let Some(content_type) = &wanted.content_type {
        query = match content_type.strip_suffix('*') {
            Some(prefix) => query.filter(files::content_type.like(format!("{}%", escape_like(prefix)))),
            None => query.filter(files::content_type.eq(content_type)),
        };
    }
    // A row comparison, so that the index scan starts at the right position instead of filtering from the beginning.
    let beyond = if wanted.descending { "<" } else { ">" };
    if let Some(id) = wanted.after {
        let start = |column: &str| sql::<Bool>(&format!("({column}, files.id) {beyond} ("));
        query = match &wanted.order {
            ListOrder::Name(Some(name)) => query.filter(
                start("files.filename").bind::<Text, _>(name).sql(", ").bind::<SqlUuid, _>(id).sql(")"),
            ),
            ListOrder::Size(Some(size)) => query.filter(
                start("files.file_size").bind::<BigInt, _>(*size).sql(", ").bind::<SqlUuid, _>(id).sql(")"),
            ),
            ListOrder::UploadedAt(Some(at)) => query.filter(
                start("files.uploaded_at")
                    .bind::<Timestamptz, _>(*at)
                    .sql(", ")
                    .bind::<SqlUuid, _>(id)
                    .sql(")"),
            ),
            _ => query,
        };
    }
    query = match (&wanted.order, wanted.descending) {
        (ListOrder::Name(_), false) => query.order((files::filename.asc(), files::id.asc())),
        (ListOrder::Name(_), true) => query.order((files::filename.desc(), files::id.desc())),
        (ListOrder::Size(_), false) => query.order((files::file_size.asc(), files::id.asc())),
        (ListOrder::Size(_), true) => query.order((files::file_size.desc(), files::id.desc())),
        (ListOrder::UploadedAt(_), false) => query.order((files::uploaded_at.asc(), files::id.asc())),
        (ListOrder::UploadedAt(_), true) => query.order((files::uploaded_at.desc(), files::id.desc())),
    };
    Ok(query.load(conn).await?)
}

pub(super) fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Files joined with the object of their current version.
#[diesel::dsl::auto_type]
fn with_object() -> _ {
    let row: diesel::dsl::AsSelect<FileRow, Pg> = FileRow::as_select();
    files::table
        .inner_join(
            file_versions::table.on(file_versions::file_id
                .eq(files::id)
                .and(file_versions::number.eq(files::current_version))),
        )
        .inner_join(objects::table.on(objects::id.eq(file_versions::object_id)))
        .select((row, objects::id, objects::sha256))
}
