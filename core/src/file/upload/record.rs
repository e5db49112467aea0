//! The record of an upload: its object, replica, version, file and charged bytes, in one transaction. Uploads that end at
//! the same time share it, so that they wait for one commit and lock the row of their owner once.

use std::collections::BTreeMap;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::{Files, OnConflict};
use crate::batcher::Batcher;
use crate::checksum::ObjectDigest;
use crate::context::Context;
use crate::db::files::{self, NewVersion};
use crate::db::uploads::{self, StoredUpload};
use crate::db::{objects, signed, users};
use crate::error::{Error, Result};
use crate::file::details::{self, FileView};
use crate::file::name;
use crate::ids::{FileId, FolderId, ObjectId, UserId};
use crate::tiering::replication;

/// Maximum number of names to try for `on_conflict = rename`.
const MAX_RENAMES: u32 = 1000;
/// Maximum number of uploads in one transaction.
const BATCH: usize = 64;

/// An upload whose content is stored and verified.
#[derive(Debug, Clone)]
pub(super) struct StoredFile {
    pub(super) owner: UserId,
    pub(super) folder: FolderId,
    pub(super) filename: String,
    pub(super) content_type: String,
    pub(super) on_conflict: OnConflict,
    pub(super) object: ObjectId,
    /// The store with its content.
    pub(super) store: String,
    pub(super) digest: ObjectDigest,
    /// As returned by the store.
    pub(super) etag: String,
}

impl StoredFile {
    fn version(&self) -> NewVersion<'_> {
        NewVersion {
            owner_id: self.owner,
            created_by: self.owner,
            folder_id: self.folder,
            filename: &self.filename,
            original_filename: &self.filename,
            object_id: self.object,
            size: signed(self.digest.size),
            content_type: &self.content_type,
            store: &self.store,
        }
    }
}

/// What became of an upload in a batch.
enum Recorded {
    /// It is a new file.
    Created(Box<FileView>),
    /// Nothing was changed: it must be recorded by itself.
    Single,
    /// The database is away.
    Failed(Error),
}

/// The uploads of a process that wait to be recorded. Clones share them.
#[derive(Clone)]
pub struct Records(Batcher<StoredFile, Recorded>);

impl Default for Records {
    fn default() -> Self {
        Self(Batcher::new(BATCH))
    }
}

/// Records an upload. Returns the file as created by it, regardless of later changes.
///
/// # Errors
/// [`Error::QuotaExceeded`], [`Error::NameTaken`], [`Error::Conflict`] if the upload was abandoned; then nothing was
/// changed.
pub(super) async fn record(files: &Files, file: StoredFile) -> Result<FileView> {
    let context = &files.context;
    let run = |batch| create(context.clone(), batch);
    match files.records.0.submit(file.clone(), run).await {
        Some(Recorded::Created(view)) => Ok(*view),
        Some(Recorded::Single) => record_single(context, &file).await,
        Some(Recorded::Failed(error)) => Err(error),
        None => Err(Error::Internal("recording the upload was interrupted".to_owned())),
    }
}

/// Creates files for the uploads whose names are unused. An upload that is to be a version, that was abandoned or that
/// exceeds a quota is recorded by itself: the error, if it is one, concerns it alone.
async fn create(context: Context, batch: Vec<StoredFile>) -> Vec<Recorded> {
    let mut created = match create_all(&context, &batch).await {
        Ok(created) => created,
        Err(Error::DatabaseUnavailable(reason)) => {
            let failed = |_| Recorded::Failed(Error::DatabaseUnavailable(reason.clone()));
            return batch.iter().map(failed).collect();
        }
        Err(error) => {
            tracing::debug!(uploads = batch.len(), %error, "uploads are recorded one by one");
            BTreeMap::new()
        }
    };
    let result = |file: &StoredFile| {
        created.remove(&file.object).map_or(Recorded::Single, |view| Recorded::Created(Box::new(view)))
    };
    batch.iter().map(result).collect()
}

/// Creates the files in one transaction; an error means that nothing was changed.
async fn create_all(context: &Context, batch: &[StoredFile]) -> Result<BTreeMap<ObjectId, FileView>> {
    let stored: Vec<StoredUpload<'_>> = batch
        .iter()
        .map(|file| StoredUpload {
            file: FileId::new(),
            version: file.version(),
            digest: &file.digest,
            etag: &file.etag,
        })
        .collect();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let Some(created) = uploads::create_files(conn, &stored).await? else {
            return Err(Error::Conflict("An upload of the batch cannot be recorded.".to_owned()));
        };
        for upload in stored.iter().filter(|upload| created.contains(&upload.file)) {
            replication::of_upload(context, conn, upload.version.object_id, upload.version.store).await?;
        }
        let rows = files::of_ids(conn, &created).await?;
        let views = details::with_locations(conn, rows).await?;
        Ok(views.into_iter().map(|view| (view.object_id, view)).collect())
    })
    .await
}

/// Records one upload in a transaction of its own.
async fn record_single(context: &Context, file: &StoredFile) -> Result<FileView> {
    let new = file.version();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        objects::finish_upload(conn, new.object_id, &file.digest, new.store, &file.etag).await?;
        replication::of_upload(context, conn, new.object_id, new.store).await?;
        let id = place(conn, &new, file.on_conflict).await?;
        // After the name, in the order of a batch and of a deletion: otherwise they could wait for each other.
        users::book_bytes(conn, file.owner, new.size).await?;
        details::of_owner(conn, file.owner, id).await
    })
    .await
}

/// Records the version: with a new name, or as the next version of the file with this name.
async fn place(
    conn: &mut AsyncPgConnection,
    new: &NewVersion<'_>,
    on_conflict: OnConflict,
) -> Result<FileId> {
    match on_conflict {
        OnConflict::Fail => {
            files::insert(conn, new).await?.ok_or_else(|| Error::NameTaken(new.filename.to_owned()))
        }
        OnConflict::Version => {
            // Between the two statements the name may be released or taken; then the other one succeeds.
            for _ in 0..10 {
                if let Some(id) = files::add_version(conn, new).await? {
                    return Ok(id);
                }
                if let Some(id) = files::insert(conn, new).await? {
                    return Ok(id);
                }
            }
            Err(Error::Conflict("The file keeps changing. Try again.".to_owned()))
        }
        OnConflict::Rename => {
            if let Some(id) = files::insert(conn, new).await? {
                return Ok(id);
            }
            for number in 1..MAX_RENAMES {
                let filename = name::numbered(new.filename, number);
                let renamed = NewVersion { filename: &filename, ..new.clone() };
                if let Some(id) = files::insert(conn, &renamed).await? {
                    return Ok(id);
                }
            }
            Err(Error::NameTaken(new.filename.to_owned()))
        }
    }
}
