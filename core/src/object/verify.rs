//! Verifies that a store has the right content: by its response if canaries have shown that the store verifies checksums,
//! otherwise by a HEAD request, otherwise by reading everything back.

use std::time::Duration;

use crate::checksum::{Crc64Nvme, ObjectDigest, Sha256};
use crate::db::unsigned;
use crate::encryption::{EncryptionEnvelope, encrypted_size};
use crate::error::Error;
use crate::ids::ObjectId;
use crate::retry::{self, RetryPolicy};
use crate::store::{ObjectHead, ObjectKey, PutReceipt, SendMode, Store, StoreError, Verdict};

use super::crypto::{self, ObjectRef};
use super::pace::BandwidthLimiter;

/// For requests whose body is in memory: a few attempts within a second or two, before an error is returned.
pub const QUICK_RETRY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(100),
    cap: Duration::from_secs(1),
    max_attempts: 4,
    max_elapsed: None,
};

/// The expected object.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: Sha256,
    /// CRC-64/NVME of the content.
    pub crc64nvme: Crc64Nvme,
}

/// The expected object, and its form in a store.
#[derive(Debug, Clone)]
pub struct Form {
    /// The expected object.
    pub expected: Expected,
    /// Encryption envelope; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
    /// CRC-64/NVME of the ciphertext, if known.
    pub encrypted_crc64nvme: Option<Crc64Nvme>,
}

impl Expected {
    /// The content of an object according to the columns of its row.
    ///
    /// # Errors
    /// [`Error::Internal`] if they contain no usable checksums.
    pub fn recorded(
        object: ObjectId,
        size: i64,
        sha256: Option<&[u8]>,
        crc64nvme: Option<&[u8]>,
    ) -> Result<Self, Error> {
        let unusable = || Error::Internal(format!("object {object} has no usable checksums"));
        Ok(Self {
            size: unsigned(size),
            sha256: sha256.unwrap_or(&[]).try_into().map_err(|_| unusable())?,
            crc64nvme: crc64nvme.unwrap_or(&[]).try_into().map_err(|_| unusable())?,
        })
    }

    /// Unencrypted.
    pub fn plain(self) -> Form {
        self.form(None)
    }

    /// Encrypted, if there is an envelope; the checksum of the ciphertext is unknown.
    pub fn form(self, envelope: Option<EncryptionEnvelope>) -> Form {
        Form { expected: self, envelope, encrypted_crc64nvme: None }
    }
}

impl Form {
    /// The expected size in the store.
    pub fn stored_size(&self) -> u64 {
        match self.envelope {
            None => self.expected.size,
            Some(_) => encrypted_size(self.expected.size),
        }
    }

    fn sha256(&self) -> Option<Sha256> {
        self.envelope.is_none().then_some(self.expected.sha256)
    }

    fn crc64nvme(&self) -> Option<Crc64Nvme> {
        if self.envelope.is_none() { Some(self.expected.crc64nvme) } else { self.encrypted_crc64nvme }
    }

    fn object<'a>(&'a self, key: &'a ObjectKey) -> ObjectRef<'a> {
        ObjectRef { key, size: self.expected.size, envelope: self.envelope.as_ref() }
    }
}

impl From<&ObjectDigest> for Form {
    /// The bytes as they are stored.
    fn from(digest: &ObjectDigest) -> Self {
        Expected { size: digest.size, sha256: digest.sha256, crc64nvme: digest.crc64nvme }.plain()
    }
}

/// Why an object is not verified.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// The request to the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store acknowledged it, but does not have it.
    #[error("store {0} acknowledged the object but does not have it")]
    Missing(String),
    /// The store has other content.
    #[error("store {store} has {what} instead of {wanted}")]
    Wrong {
        /// Store.
        store: String,
        /// The actual content.
        what: String,
        /// The expected content.
        wanted: String,
    },
}

impl From<Unverified> for Error {
    fn from(error: Unverified) -> Self {
        match error {
            Unverified::Store(error) => Self::Store(error),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Verifies an object after a PUT or a completed multipart upload, sent in this way. A checksum in the response is
/// sufficient and free if the store was seen refusing wrong ones; otherwise it may only be copied from the request, and
/// the store is queried with a HEAD. From a store that keeps no checksums, or returns false ones, the object is read
/// back, at this rate.
pub async fn verify_object(
    store: &Store,
    key: &ObjectKey,
    receipt: &PutReceipt,
    form: &Form,
    sending: SendMode,
    pace: Option<&BandwidthLimiter>,
) -> Result<(), Unverified> {
    if is_proved(store, receipt.sha256, receipt.crc64nvme, form)? && store.trusts_response(sending) {
        return Ok(());
    }
    verify_by_head(store, key, form, pace).await
}

/// Verifies an object whose PUT got no response, or was long ago.
pub async fn verify_by_head(
    store: &Store,
    key: &ObjectKey,
    form: &Form,
    pace: Option<&BandwidthLimiter>,
) -> Result<(), Unverified> {
    match unproved_etag(store, key, form).await? {
        None => Ok(()),
        Some(_) => verify_by_reading(store, key, form, pace).await,
    }
}

/// `None` if the size and checksum returned by a HEAD request are correct. The ETag, if only the size is, because the
/// store returns no comparable checksum, or was seen returning a false one: S3 changes it with the content.
pub async fn unproved_etag(
    store: &Store,
    key: &ObjectKey,
    form: &Form,
) -> Result<Option<String>, Unverified> {
    let head = store.head(key).await?.ok_or_else(|| Unverified::Missing(store.name().to_string()))?;
    let wanted = form.stored_size();
    if head.size != wanted {
        return Err(Unverified::Wrong {
            store: store.name().to_string(),
            what: format!("{} bytes", head.size),
            wanted: format!("{wanted} bytes"),
        });
    }
    Ok((!is_proved_by_head(store, &head, form)?).then_some(head.etag))
}

/// An intact copy that was looked for.
#[derive(Debug, Clone)]
pub struct Intact {
    /// ETag without quotes.
    pub etag: String,
    /// Storage class, if the store returns one.
    pub storage_class: Option<String>,
    /// The envelope stored with the object; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
}

/// Searches a store for an object that is not known to be there, in any form. If the store returns no comparable
/// checksum, or was seen returning a false one, the object is read, if `may_read`; otherwise it counts as not found. So
/// does one with other content.
///
/// # Errors
/// Any error of the store: the object may be there.
pub async fn find_intact(
    store: &Store,
    key: &ObjectKey,
    expected: Expected,
    may_read: bool,
) -> Result<Option<Intact>, StoreError> {
    let Some(head) = retry::retry(&QUICK_RETRY, || store.head(key), StoreError::retry).await? else {
        return Ok(None);
    };
    let form = expected.form(EncryptionEnvelope::from_metadata(&head.metadata));
    if head.size != form.stored_size() {
        return Ok(None);
    }
    let proved = match is_proved_by_head(store, &head, &form) {
        Ok(false) if may_read => verify_by_reading(store, key, &form, None).await.map(|()| true),
        proved => proved,
    };
    match proved {
        Ok(true) => {
            let envelope = form.envelope;
            Ok(Some(Intact { etag: head.etag, storage_class: head.storage_class, envelope }))
        }
        Ok(false) | Err(Unverified::Missing(_) | Unverified::Wrong { .. }) => Ok(None),
        Err(Unverified::Store(error)) if is_of_object(&error) => Ok(None),
        Err(Unverified::Store(error)) => Err(error),
    }
}

/// Whether the object itself, and not the request, is at fault.
fn is_of_object(error: &StoreError) -> bool {
    matches!(error.verdict(), Verdict::SourceMissing | Verdict::Corrupt)
}

/// Downloads the object, decrypts it if necessary, and hashes it.
pub async fn verify_by_reading(
    store: &Store,
    key: &ObjectKey,
    form: &Form,
    pace: Option<&BandwidthLimiter>,
) -> Result<(), Unverified> {
    let (_, sha256) = read_fully(store, form.object(key), pace).await?;
    if sha256 == form.expected.sha256 {
        return Ok(());
    }
    Err(Unverified::Wrong {
        store: store.name().to_string(),
        what: format!("SHA-256 {sha256}"),
        wanted: form.expected.sha256.to_string(),
    })
}

/// Size and SHA-256 of the content returned by a store, decrypted if possible; read at this rate, if any.
pub async fn read_fully(
    store: &Store,
    object: ObjectRef<'_>,
    pace: Option<&BandwidthLimiter>,
) -> Result<(u64, Sha256), StoreError> {
    let passed = async |bytes| {
        if let Some(pace) = pace {
            pace.pass(bytes).await;
        }
    };
    let hashed = crypto::hash(store, object, passed).await?;
    Ok((hashed.size, hashed.sha256))
}

/// The content of an object in a store, determined by reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The right content.
    Right,
    /// The object does not exist.
    Missing,
    /// This content, in two readings.
    Wrong {
        /// Actual size.
        size: u64,
        /// Hash.
        sha256: Sha256,
    },
    /// Each reading returns other content.
    Unsure,
}

/// A copy is not declared bad after one wrong reading, because data can also be corrupted in transit. Reads until a
/// reading is right or two agree; `first` is the first wrong one.
///
/// # Errors
/// Any error of `read`, except that the object is missing.
pub async fn confirm_bad<Fut>(
    right: (u64, Sha256),
    first: Option<(u64, Sha256)>,
    mut read: impl FnMut() -> Fut,
) -> Result<Held, StoreError>
where
    Fut: Future<Output = Result<(u64, Sha256), StoreError>>,
{
    let mut seen = first;
    loop {
        let held = match read().await {
            Err(error) if error.verdict() == Verdict::SourceMissing => return Ok(Held::Missing),
            held => held?,
        };
        if held == right {
            return Ok(Held::Right);
        }
        match seen.replace(held) {
            None => {}
            Some(before) if before == held => {
                let (size, sha256) = held;
                return Ok(Held::Wrong { size, sha256 });
            }
            Some(_) => return Ok(Held::Unsure),
        }
    }
}

/// Whether the response to a HEAD request contains a checksum that can be compared. It is an error if one is wrong. From a
/// store that was seen returning false ones, they show nothing, neither right nor wrong content.
fn is_proved_by_head(store: &Store, head: &ObjectHead, form: &Form) -> Result<bool, Unverified> {
    Ok(store.trusts_head() && is_proved(store, head.sha256, head.crc64nvme, form)?)
}

/// Whether a store reports a checksum that can be compared. It is an error if one is wrong.
fn is_proved(
    store: &Store,
    sha256: Option<Sha256>,
    crc: Option<Crc64Nvme>,
    form: &Form,
) -> Result<bool, Unverified> {
    let wrong =
        |what: String, wanted: String| Unverified::Wrong { store: store.name().to_string(), what, wanted };
    let (sha256, crc) = (sha256.zip(form.sha256()), crc.zip(form.crc64nvme()));
    match (sha256, crc) {
        (Some((sha256, wanted)), _) if sha256 != wanted => {
            Err(wrong(format!("SHA-256 {sha256}"), wanted.to_string()))
        }
        (_, Some((crc, wanted))) if crc != wanted => {
            Err(wrong(format!("CRC-64/NVME {crc}"), wanted.to_string()))
        }
        (sha256, crc) => Ok(sha256.is_some() || crc.is_some()),
    }
}
