//! An upload through the service: streamed to the local store part by part, hashed in transit, and acknowledged only
//! after the store has confirmed it and the database has recorded it.
//!
//! The part of an upload that concerns the file: its name, its rows and the quota of its owner.
//! [`crate::object::write`] transfers the bytes.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use super::Files;
use super::details::{self, FileView};
use super::list::{FolderRef, resolve_folder};
use super::name;
use crate::checksum::{ObjectDigest, Sha256};
use crate::context::Context;
use crate::db::files::{self as file_rows, NewVersion};
use crate::db::{labels, objects, signed, users};
use crate::error::{Error, Result};
use crate::ids::{FileId, FolderId, ObjectId, UserId};
use crate::object::store_choice;
use crate::object::write::{Incoming, ObjectWriter, Receiver};
use crate::step::{self, Step};
use crate::store::{Label, ObjectKey, PutOptions};
use crate::tiering::replication;

/// Maximum number of names to try for `on_conflict = rename`.
const MAX_RENAMES: u32 = 1000;

/// What to do if the folder contains a live file with this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The upload becomes the next version of the existing file.
    #[default]
    Version,
    /// The upload gets an unused name.
    Rename,
    /// The upload is rejected.
    Fail,
}

/// The upload, as far as it is known before the first byte.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// The uploading account, which will own the file.
    pub owner: UserId,
    /// The destination folder.
    pub folder: FolderRef,
    /// Name, as the client sent it.
    pub filename: String,
    /// MIME type, if sent by the client; otherwise it is detected from the content or the name.
    pub content_type: Option<String>,
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// The checksum announced by the client.
    pub sha256: Option<Sha256>,
}

/// Receives an upload. Returns the file once its bytes are verified and recorded.
///
/// # Errors
/// [`Error::Validation`], [`Error::NotFound`] (folder), [`Error::FileTooLarge`], [`Error::QuotaExceeded`],
/// [`Error::ChecksumMismatch`], [`Error::NameTaken`], [`Error::BadRequest`] if the body ends early,
/// [`Error::UploadsBusy`], [`Error::NoLocalStore`], [`Error::Store`]. In any case nothing is left behind: sent data is
/// marked and reaped.
pub async fn receive(files: &Files, request: UploadRequest, body: &mut impl Incoming) -> Result<FileView> {
    let context = &files.context;
    let filename = name::check(&request.filename, "filename")?;
    let folder = resolve_folder(context, request.owner, request.folder).await?;
    let limit = context.config.server.max_file_size_bytes();
    // An upload that cannot fit is rejected before its transfer; the final size is charged in one statement.
    let room = users::room(&mut *context.db.conn().await?, request.owner).await?;
    let check_size = |size: u64| {
        if size > limit {
            return Err(Error::FileTooLarge { limit });
        }
        match room.filter(|room| size > room.left()) {
            Some(room) => Err(Error::QuotaExceeded { quota: room.quota, used: room.used }),
            None => Ok(()),
        }
    };
    check_size(body.at_least())?;
    let mut incoming = Receiver::new(body, &check_size);
    let content_type = content_type(&request, &filename, incoming.peek().await?);
    let object_id = ObjectId::new();
    let key = ObjectKey::new(request.owner.0, object_id.0, &filename);
    let options = put_options(context, &request, object_id, folder, &filename, &content_type).await?;
    let store = store_choice::local(context, &mut *context.db.conn().await?).await?.clone();
    let mut writer =
        ObjectWriter::new(context, &files.upload_memory, request.owner, store, object_id, key, options);
    writer.begin(&content_type).await?;
    step::reached(Step::UploadBegun, writer.key.as_str()).await;
    let outcome = async {
        let (digest, etag) = writer.write(&mut incoming).await?;
        step::reached(Step::UploadStored, writer.key.as_str()).await;
        if let Some(expected) = request.sha256.filter(|expected| *expected != digest.sha256) {
            return Err(Error::ChecksumMismatch {
                expected: expected.to_string(),
                actual: digest.sha256.to_string(),
            });
        }
        record(context, &request, folder, &filename, &content_type, &writer, &digest, &etag).await
    }
    .await;
    if outcome.is_err() {
        writer.give_up().await;
    }
    outcome
}

/// The metadata of the object. Its file and version are known only after its content has been received.
async fn put_options(
    context: &Context,
    request: &UploadRequest,
    object: ObjectId,
    folder: FolderId,
    filename: &str,
    content_type: &str,
) -> Result<PutOptions> {
    let place = labels::place(&mut *context.db.conn().await?, request.owner, folder).await?;
    let label = Label {
        object: Some(object.0),
        owner: Some(request.owner.0),
        email: place.email,
        name: Some(filename.to_owned()),
        folder: place.folder,
        time: Some(context.clock.now()),
        ..Label::default()
    };
    Ok(PutOptions {
        content_type: Some(content_type.to_owned()),
        metadata: label.metadata(),
        ..PutOptions::default()
    })
}

/// The type sent by the client, unless it is absent, generic, or not valid in a header (signatures require ASCII); then
/// that of the first bytes, then that of the name.
fn content_type(request: &UploadRequest, filename: &str, first: &[u8]) -> String {
    const UNKNOWN: &str = "application/octet-stream";
    let said = request.content_type.as_deref().and_then(|text| text.parse::<mime::Mime>().ok());
    match said {
        Some(said)
            if said.essence_str() != UNKNOWN && said.as_ref().len() <= 255 && said.as_ref().is_ascii() =>
        {
            said.to_string()
        }
        _ => infer::get(first)
            .map(|kind| kind.mime_type().to_owned())
            .or_else(|| mime_guess::from_path(filename).first_raw().map(str::to_owned))
            .unwrap_or_else(|| UNKNOWN.to_owned()),
    }
}

/// The acknowledgement: object, replica, version, file and charged bytes in one transaction. Returns the file as
/// created by this upload, regardless of later changes.
#[allow(clippy::too_many_arguments, reason = "the parameters of one transaction, each used once")]
async fn record(
    context: &Context,
    request: &UploadRequest,
    folder: FolderId,
    filename: &str,
    content_type: &str,
    writer: &ObjectWriter<'_>,
    digest: &ObjectDigest,
    etag: &str,
) -> Result<FileView> {
    let new = NewVersion {
        owner_id: request.owner,
        created_by: request.owner,
        folder_id: folder,
        filename,
        original_filename: filename,
        object_id: writer.object_id,
        size: signed(digest.size),
        content_type,
        store: writer.store.name().as_str(),
    };
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        users::book_bytes(conn, request.owner, new.size).await?;
        objects::finish_upload(conn, new.object_id, digest, new.store, etag).await?;
        replication::of_upload(context, conn, new.object_id, new.store).await?;
        let id = place(conn, &new, request.on_conflict).await?;
        details::of_owner(conn, request.owner, id).await
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
            file_rows::insert(conn, new).await?.ok_or_else(|| Error::NameTaken(new.filename.to_owned()))
        }
        OnConflict::Version => {
            // Between the two statements the name may be released or taken; then the other one succeeds.
            for _ in 0..10 {
                if let Some(id) = file_rows::add_version(conn, new).await? {
                    return Ok(id);
                }
                if let Some(id) = file_rows::insert(conn, new).await? {
                    return Ok(id);
                }
            }
            Err(Error::Conflict("The file keeps changing. Try again.".to_owned()))
        }
        OnConflict::Rename => {
            if let Some(id) = file_rows::insert(conn, new).await? {
                return Ok(id);
            }
            for number in 1..MAX_RENAMES {
                let filename = name::numbered(new.filename, number);
                let renamed = NewVersion { filename: &filename, ..new.clone() };
                if let Some(id) = file_rows::insert(conn, &renamed).await? {
                    return Ok(id);
                }
            }
            Err(Error::NameTaken(new.filename.to_owned()))
        }
    }
}
