//! An upload through the service: streamed to the local store part by part, hashed in transit, and acknowledged only
//! after the store has confirmed it and the database has recorded it.
//!
//! The part of an upload that concerns the file: its name, its rows and the quota of its owner.
//! [`crate::object::write`] transfers the bytes.

mod record;

use diesel_async::AsyncPgConnection;

pub use self::record::Records;
use self::record::StoredFile;
use super::Files;
use super::details::FileView;
use super::list::{FolderRef, folder_of};
use super::name;
use crate::checksum::Sha256;
use crate::context::Context;
use crate::db::labels::{self, Place};
use crate::db::users::{self, Room};
use crate::error::{Error, Result};
use crate::ids::{FolderId, ObjectId, UserId};
use crate::object::store_choice;
use crate::object::write::{Incoming, ObjectWriter, Receiver};
use crate::step::{self, Step};
use crate::store::{Label, ObjectKey, PutOptions, Store};

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
    let Destination { folder, room, place, store } =
        destination(context, &mut *context.db.conn().await?, &request).await?;
    let limit = context.config.server.max_file_size_bytes();
    // An upload that cannot fit is rejected before its transfer; the final size is charged in one statement.
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
    let options = put_options(context, &request, object_id, place, &filename, &content_type);
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
        let file = StoredFile {
            owner: request.owner,
            folder,
            filename: filename.clone(),
            content_type: content_type.clone(),
            on_conflict: request.on_conflict,
            object: object_id,
            store: writer.store.name().to_string(),
            digest,
            etag,
        };
        record::record(files, file).await
    }
    .await;
    if outcome.is_err() {
        writer.give_up().await;
    }
    outcome
}

/// Where an upload goes.
struct Destination {
    folder: FolderId,
    /// `None`: the owner has no quota.
    room: Option<Room>,
    place: Place,
    store: Store,
}

/// Determines the destination. On one connection, which is released before the client sends anything.
async fn destination(
    context: &Context,
    conn: &mut AsyncPgConnection,
    request: &UploadRequest,
) -> Result<Destination> {
    let folder = folder_of(conn, request.owner, request.folder).await?;
    Ok(Destination {
        folder,
        room: users::room(conn, request.owner).await?,
        place: labels::place(conn, request.owner, folder).await?,
        store: store_choice::local(context, conn).await?.clone(),
    })
}

/// The metadata of the object. Its file and version are known only after its content has been received.
fn put_options(
    context: &Context,
    request: &UploadRequest,
    object: ObjectId,
    place: Place,
    filename: &str,
    content_type: &str,
) -> PutOptions {
    let label = Label {
        object: Some(object.0),
        owner: Some(request.owner.0),
        email: place.email,
        name: Some(filename.to_owned()),
        folder: place.folder,
        time: Some(context.clock.now()),
        ..Label::default()
    };
    PutOptions {
        content_type: Some(content_type.to_owned()),
        metadata: label.metadata(),
        ..PutOptions::default()
    }
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
