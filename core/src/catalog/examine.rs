//! Examines one object in a store: its metadata, whether its content matches, and how it can be used. Metadata may have
//! been written by anyone with access to the bucket: each field is validated like user input.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use super::encrypted;
use super::error::CatalogError;
use super::verify::CONCURRENCY;
use crate::checksum::{Crc64Nvme, ObjectDigest, Sha256, UploadHasher};
use crate::context::Context;
use crate::db::catalog::{Candidate, Certainty, Seen};
use crate::db::{signed, unsigned};
use crate::encryption::EncryptionEnvelope;
use crate::error::Error;
use crate::file::name;
use crate::retry::{self, RetryPolicy};
use crate::store::{Label, ObjectHead, ObjectKey, Store, StoreError};

const UNKNOWN_TYPE: &str = "application/octet-stream";

pub(super) enum Examined {
    /// The object is usable; one entry for each version.
    Seen(Vec<Seen>),
    /// The object was deleted after the listing.
    Gone,
    /// The object is unusable, for this reason.
    Unusable(String),
}

/// The properties of the plaintext.
pub(super) struct Bytes {
    pub(super) size: u64,
    pub(super) sha256: Sha256,
    pub(super) crc64nvme: Crc64Nvme,
    pub(super) blocks: Option<Vec<u8>>,
    pub(super) certainty: Certainty,
    /// When the content was verified; `None` if it could not be proved.
    pub(super) verified_at: Option<DateTime<Utc>>,
    pub(super) envelope: Option<EncryptionEnvelope>,
}

impl Bytes {
    /// Properties of content that has just been read. An envelope contains the checksum of the upload.
    pub(super) fn read(
        digest: &ObjectDigest,
        envelope: Option<EncryptionEnvelope>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            size: digest.size,
            sha256: digest.sha256,
            crc64nvme: digest.crc64nvme,
            blocks: Some(digest.blocks.to_bytes()),
            certainty: if envelope.is_some() { Certainty::Proved } else { Certainty::Content },
            verified_at: Some(now),
            envelope,
        }
    }
}

/// Examines objects, several at a time.
pub(super) async fn examine_all(
    context: &Context,
    page: Vec<Candidate>,
) -> Result<Vec<(Candidate, Examined)>, CatalogError> {
    stream::iter(page)
        .map(|candidate| async move {
            let found = examine(context, &candidate).await?;
            Ok::<_, CatalogError>((candidate, found))
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

async fn examine(context: &Context, candidate: &Candidate) -> Result<Examined, CatalogError> {
    let Ok(key) = ObjectKey::parse(&candidate.key) else {
        return Ok(Examined::Unusable("its key does not belong to Nightferry".to_owned()));
    };
    let store = context
        .stores
        .get(&candidate.store)
        .ok_or_else(|| Error::Internal(format!("store {} is not configured", candidate.store)))?;
    let head = || store.head(&key);
    let Some(head) = retry::retry(&RetryPolicy::default(), head, StoreError::retry).await? else {
        return Ok(Examined::Gone);
    };
    if head.size != unsigned(candidate.size) {
        return Ok(Examined::Unusable("its size has changed since the listing".to_owned()));
    }
    let mut label = Label::read(&head.metadata);
    // Metadata of another object, copied here with another tool: it does not describe this object. Metadata without an
    // object id was not written by Nightferry: its name may be used, but not its version.
    match label.object {
        Some(object) if key.object() != Some(object) => label = Label::default(),
        Some(_) => {}
        None => (label.file, label.also) = (None, Vec::new()),
    }
    let now = context.clock.now();
    let known = if encrypted::is_encrypted(&head) {
        encrypted::bytes(store, &key, &head, now).await?
    } else {
        bytes(store, &key, &head, &label, now).await?
    };
    Ok(match known {
        Ok(bytes) => Examined::Seen(seen(candidate, &key, &head, &label, &bytes, now)),
        Err(why) => Examined::Unusable(why),
    })
}

/// The properties of the content, and whether it is verified; or why it is wrong.
async fn bytes(
    store: &Store,
    key: &ObjectKey,
    head: &ObjectHead,
    label: &Label,
    now: DateTime<Utc>,
) -> Result<Result<Bytes, String>, StoreError> {
    let contradicts = |sha256: Option<Sha256>, crc: Option<Crc64Nvme>| {
        label.sha256.zip(sha256).is_some_and(|(a, b)| a != b)
            || label.crc64nvme.zip(crc).is_some_and(|(a, b)| a != b)
    };
    let wrong = || Err("its content does not match its metadata".to_owned());
    // A store that was seen returning false checksums proves nothing with them.
    let told = if store.trusts_head() { (head.sha256, head.crc64nvme) } else { (None, None) };
    if contradicts(told.0, told.1) {
        return Ok(wrong());
    }
    if let (Some(sha256), Some(crc64nvme)) = (label.sha256, label.crc64nvme) {
        let proved = told.0.is_some() || told.1.is_some();
        let verified_at = proved.then_some(now);
        let certainty = if proved { Certainty::Proved } else { Certainty::Metadata };
        let size = head.size;
        return Ok(Ok(Bytes {
            size,
            sha256,
            crc64nvme,
            blocks: None,
            certainty,
            verified_at,
            envelope: None,
        }));
    }
    // The hash of a multipart upload was unknown at its start: only its content can provide it.
    let read = || async { hashed(store.get(key, None).await?.body).await };
    let digest = retry::retry(&RetryPolicy::default(), read, StoreError::retry).await?;
    if digest.size != head.size || contradicts(Some(digest.sha256), Some(digest.crc64nvme)) {
        return Ok(wrong());
    }
    let read = Bytes::read(&digest, None, now);
    let is_of_upload = label.sha256.is_some() || label.crc64nvme.is_some();
    Ok(Ok(Bytes { certainty: if is_of_upload { Certainty::Proved } else { read.certainty }, ..read }))
}

/// The properties of the content of a body.
pub(super) async fn hashed(
    mut body: impl Stream<Item = Result<bytes::Bytes, StoreError>> + Unpin,
) -> Result<ObjectDigest, StoreError> {
    let mut hasher = UploadHasher::new();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk?);
    }
    Ok(hasher.finish())
}

fn seen(
    candidate: &Candidate,
    key: &ObjectKey,
    head: &ObjectHead,
    label: &Label,
    bytes: &Bytes,
    now: DateTime<Utc>,
) -> Vec<Seen> {
    // Every key of this format contains both ids.
    let (Some(object_id), Some(owner_id)) = (key.object(), key.user()) else { return Vec::new() };
    let at = label.time.filter(|time| *time <= now + TimeDelta::days(1)).unwrap_or(candidate.modified);
    let of_label = label.name.as_deref().and_then(checked_name);
    let name = of_label.unwrap_or_else(|| name_in(key));
    let file_id = label.file.filter(|_| label.version.is_some());
    let first = Seen {
        key: candidate.key.clone(),
        store: candidate.store.clone(),
        ordinal: 0,
        size: signed(bytes.size),
        etag: plain(&head.etag),
        storage_class: head.storage_class.as_deref().map(plain),
        content_type: head
            .content_type
            .as_deref()
            .filter(|kind| kind.len() <= 255 && kind.parse::<mime::Mime>().is_ok())
            .unwrap_or(UNKNOWN_TYPE)
            .to_owned(),
        sha256: bytes.sha256.to_string(),
        crc64nvme: format!("{:016x}", bytes.crc64nvme.as_u64()),
        block_crcs: bytes.blocks.as_ref().map(hex::encode),
        key_id: bytes.envelope.as_ref().map(|envelope| envelope.key_id.clone()),
        envelope: bytes.envelope.as_ref().map(|envelope| hex::encode(&envelope.wrapped_key)),
        certainty: bytes.certainty,
        is_labelled: label.object.is_some(),
        verified_at: bytes.verified_at,
        at,
        object_id,
        owner_id,
        email: label.email.clone().filter(|email| is_email(email)),
        file_id,
        version: label.version.filter(|_| file_id.is_some()),
        original: label.original.as_deref().and_then(checked_name).unwrap_or_else(|| name.clone()),
        name,
        folder: checked_folder(&label.folder),
    };
    let also = label.also.iter().zip(1..).filter_map(|(shared, ordinal)| {
        let name = checked_name(&shared.name)?;
        Some(Seen {
            ordinal,
            file_id: Some(shared.file),
            version: Some(shared.version),
            original: name.clone(),
            name,
            folder: checked_folder(&shared.folder),
            ..first.clone()
        })
    });
    let also: Vec<Seen> = also.collect();
    std::iter::once(first).chain(also).collect()
}

fn checked_name(text: &str) -> Option<String> {
    name::check(text, "name").ok()
}

/// A path with an invalid name is ignored.
fn checked_folder(names: &[String]) -> Vec<String> {
    let good = names.iter().all(|name| checked_name(name).as_ref() == Some(name));
    if good { names.to_vec() } else { Vec::new() }
}

/// The sanitised name at the end of a key.
fn name_in(key: &ObjectKey) -> String {
    // After `user-{uuid}/{uuid}-`.
    let start = "user-/-".len() + 2 * 36;
    key.as_str().get(start..).and_then(checked_name).unwrap_or_else(|| "recovered".to_owned())
}

/// What the database accepts as an email address.
fn is_email(text: &str) -> bool {
    let parts = text.rsplit_once('@');
    text.trim() == text
        && text.chars().count() <= 254
        && !text.chars().any(char::is_control)
        && parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn without_a_label_the_name_is_taken_from_the_key() {
        let key = |name: &str| ObjectKey::new(Uuid::from_u128(1), Uuid::from_u128(2), name);
        assert_eq!(name_in(&key("photo.jpg")), "photo.jpg");
        assert_eq!(name_in(&key("ü")), "_");
        assert_eq!(name_in(&key(&"x".repeat(300))), "x".repeat(80));
    }

    #[test]
    fn email_addresses_and_folders_are_only_accepted_if_valid_in_the_database() {
        assert!(is_email("ada@example.org") && is_email("ä@ö"));
        for wrong in ["", "@", "a@", "@b", " a@b", "a@b\0", "a"] {
            assert!(!is_email(wrong), "{wrong:?}");
        }
        assert!(checked_folder(&["ok".to_owned(), "..".to_owned()]).is_empty());
        assert!(checked_folder(&["ok".to_owned(), " space".to_owned()]).is_empty());
        assert_eq!(checked_folder(&["a".to_owned(), "b".to_owned()]), ["a", "b"]);
    }
}
