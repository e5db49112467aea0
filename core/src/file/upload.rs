//! An upload through the service: streamed to the local store part by part, hashed on the way, acknowledged only
//! when the store has proved it and the database has recorded it.
//!
//! Here is what concerns the file: its name, its rows and the owner's quota. [`crate::object::write`] moves the bytes.

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

/// How many names are tried for `on_conflict = rename`.
const MOST_RENAMES: u32 = 1000;

/// What to do when a live file of the name is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The upload becomes its next version.
    #[default]
    Version,
    /// The upload gets a free name.
    Rename,
    /// The upload is refused.
    Fail,
}

/// What is uploaded, as far as it is known before the first byte.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// Who uploads, and will own it.
    pub owner: UserId,
    /// Where to.
    pub folder: FolderRef,
    /// Name, as the client sent it.
    pub filename: String,
    /// MIME type, if the client said one; otherwise it is found out from the bytes or the name.
    pub content_type: Option<String>,
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// What the client says the bytes hash to.
    pub sha256: Option<Sha256>,
}

/// Receives an upload. Returns the file once its bytes are proved and recorded.
///
/// # Errors
/// [`Error::Validation`], [`Error::NotFound`] (folder), [`Error::FileTooLarge`], [`Error::QuotaExceeded`],
/// [`Error::ChecksumMismatch`], [`Error::NameTaken`], [`Error::BadRequest`] when the body breaks off,
/// [`Error::UploadsBusy`], [`Error::NoLocalStore`], [`Error::Store`]. Whatever the outcome, nothing stays behind: what was
/// sent is marked and reaped.
pub async fn receive(files: &Files, request: UploadRequest, body: &mut impl Incoming) -> Result<FileView> {
    let context = &files.context;
    let filename = name::check(&request.filename, "filename")?;
    let folder = resolve_folder(context, request.owner, request.folder).await?;
    let limit = context.config.server.max_file_size_bytes();
    // What cannot fit is refused before it is carried; what is booked in the end is booked as one statement.
    let room = {
        let mut conn = context.db.conn().await?;
        users::room(&mut conn, request.owner).await?
    };
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
    let store = {
        let mut conn = context.db.conn().await?;
        store_choice::local(context, &mut conn).await?.clone()
    };
    let mut writer =
        ObjectWriter::new(context, &files.upload_memory, request.owner, store, object_id, key, options);
    writer.begin(&content_type).await?;
    step::reached(Step::UploadBegun, writer.key().as_str()).await;
    let outcome = async {
        let (digest, etag) = writer.write(&mut incoming).await?;
        step::reached(Step::UploadStored, writer.key().as_str()).await;
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

/// What goes with the object. Which file and version it becomes is known only when its bytes are in.
async fn put_options(
    context: &Context,
    request: &UploadRequest,
    object: ObjectId,
    folder: FolderId,
    filename: &str,
    content_type: &str,
) -> Result<PutOptions> {
    let place = {
        let mut conn = context.db.conn().await?;
        labels::place(&mut conn, request.owner, folder).await?
    };
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

/// What the client says, unless it says nothing, or only that it does not know, or what no header can carry (signatures are
/// made of ASCII); then the first bytes, then the name.
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

/// The acknowledgement: object, replica, version, file and booked bytes in one transaction. Answers the file as this
/// upload made it, whatever others make of it a moment later.
#[allow(clippy::too_many_arguments, reason = "the facts of one transaction, each used once")]
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
        object_id: writer.object_id(),
        size: signed(digest.size),
        content_type,
        store: writer.store().name().as_str(),
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

/// Gives the version its place: a new name, or the next version of the file that has the name.
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
            // Between the two the name may be given up or taken by somebody else; then the other one works.
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
            for number in 1..MOST_RENAMES {
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
