//! One copy: source to destination with bounded memory, verified in transit and at the end. Writes only the progress of
//! multipart uploads to the database; [`super::commit`] commits the copy.

pub mod archive;
pub mod fetch;
mod label;
mod lease;
pub mod outcome;
pub(super) mod parts;
pub mod replication;
mod unknown_copy;
mod whole;

use futures_util::stream::BoxStream;
use tokio::sync::SemaphorePermit;

use crate::checksum::{BlockCrcs, Crc64Nvme};
use crate::config::{TieringConfig, VerifyMode};
use crate::context::Context;
use crate::db::replicas::{self, Claim};
use crate::db::unsigned;
use crate::encryption::EncryptionEnvelope;
use crate::error::Error;
use crate::object::crypto::{Encryptor, ObjectRef};
use crate::object::verify::{self, Expected, Form, Held, Unverified};
use crate::store::metadata;
use crate::store::{BoxError, ObjectKey, PutOptions, Store, StoreError, StoreRole, Verdict};

use super::Engine;
use lease::WriteGuard;

pub use lease::CopyLease;

/// Sources up to this size are read completely before they are sent.
pub(super) const SMALL: u64 = 256 * 1024;

/// The number of the worker's streams used by a copy of `size` bytes.
pub fn streams_for(config: &TieringConfig, size: u64) -> usize {
    if size <= SMALL {
        0
    } else if size <= config.multipart_threshold_bytes() {
        1
    } else {
        config.part_concurrency.max(1)
    }
}

/// Why a copy failed, by the required reaction.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source is missing: its replica is lost.
    #[error("the copy in store {store} is missing")]
    SourceMissing {
        /// The source store.
        store: String,
    },
    /// The source is corrupt.
    #[error("the copy in store {store} is corrupt: {detail}")]
    SourceCorrupt {
        /// The source store.
        store: String,
        /// How it was detected.
        detail: String,
    },
    /// The source is archived. It is intact, but cannot be read without a restore.
    #[error("the copy in store {store} is archived; `nightferry file restore-archive` restores it")]
    SourceArchived {
        /// The source store.
        store: String,
    },
    /// A read of the source was wrong, but a second one did not confirm it: the transfer was at fault.
    #[error("reading from store {store} failed: {detail}")]
    BadRead {
        /// The source store.
        store: String,
        /// How it was detected.
        detail: String,
    },
    /// There is no verified replica to copy from.
    #[error("no configured store has a verified copy of this object")]
    NoSource,
    /// The lease expired and another worker has the copy.
    #[error("the lease on this copy was lost")]
    LeaseLost,
    /// A store or the network failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The multipart upload no longer exists, or cannot be completed; the next attempt creates a new one.
    #[error("{0}")]
    UploadForgotten(Box<CopyError>),
    /// The destination has other content than what was sent.
    #[error("{0}")]
    Unverified(Unverified),
    /// The database failed.
    #[error("{0}")]
    Database(Error),
    /// The database row of the object is invalid.
    #[error("{0}")]
    Unusable(String),
}

impl From<Unverified> for CopyError {
    fn from(error: Unverified) -> Self {
        match error {
            Unverified::Store(error) => Self::Store(error),
            other => Self::Unverified(other),
        }
    }
}

impl From<Error> for CopyError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// The object, its source and its destination.
pub(super) struct Job<'c> {
    pub(super) engine: &'c Engine,
    pub(super) claim: &'c Claim,
    /// Checked before each change at the destination.
    pub(super) guard: WriteGuard,
    pub(super) key: ObjectKey,
    pub(super) source: &'c Store,
    /// The encryption envelope of the source, if encrypted.
    source_envelope: Option<EncryptionEnvelope>,
    pub(super) destination: &'c Store,
    /// The encryption envelope of the destination.
    pub(super) encryptor: Option<Encryptor>,
    pub(super) expected: Expected,
    pub(super) blocks: Option<BlockCrcs>,
}

impl Job<'_> {
    /// The source object.
    pub(super) fn wanted(&self) -> ObjectRef<'_> {
        ObjectRef { key: &self.key, size: self.expected.size, envelope: self.source_envelope.as_ref() }
    }

    /// The expected object in the destination; `encrypted` is the checksum of its ciphertext.
    pub(super) fn form(&self, encrypted: Option<Crc64Nvme>) -> Form {
        let envelope = self.encryptor.as_ref().map(|encryptor| encryptor.envelope.clone());
        Form { encrypted_crc64nvme: encrypted, ..self.expected.form(envelope) }
    }
}

/// A finished and verified copy.
#[derive(Debug)]
pub struct Copied {
    /// As returned by the destination.
    pub etag: String,
    /// Encryption envelope; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
}

/// Makes and verifies a claimed copy under its lease.
///
/// # Errors
/// See [`CopyError`]. Remains at the destination are not recorded as present.
pub async fn copy(engine: &Engine, claim: &Claim, lease: &CopyLease) -> Result<Copied, CopyError> {
    let context = &engine.context;
    let job = match prepare(engine, claim, lease).await {
        Err(error @ CopyError::NoSource) => {
            return Box::pin(unknown_copy::seek(context, claim, None, error)).await;
        }
        prepared => prepared?,
    };
    let copied = if job.expected.size > context.config.tiering.multipart_threshold_bytes() {
        parts::copy(&job).await
    } else {
        whole::copy(&job).await
    };
    let etag = match copied {
        Err(error @ (CopyError::SourceMissing { .. } | CopyError::SourceCorrupt { .. })) => {
            let error = confirm_bad(&job, error).await;
            let source = job.source.name().as_str();
            return match error {
                CopyError::SourceMissing { .. } | CopyError::SourceCorrupt { .. } => {
                    Box::pin(unknown_copy::seek(context, claim, Some(source), error)).await
                }
                other => Err(other),
            };
        }
        copied => copied?,
    };
    if context.config.tiering.verify == VerifyMode::ReadBack {
        verify::verify_by_reading(job.destination, &job.key, &job.form(None), Some(&engine.pace)).await?;
    }
    Ok(Copied { etag, envelope: job.encryptor.map(|encryptor| encryptor.envelope) })
}

/// A source is not marked as corrupt after one bad read: two more must agree.
async fn confirm_bad(job: &Job<'_>, suspicion: CopyError) -> CopyError {
    let store = job.source.name().to_string();
    let right = (job.expected.size, job.expected.sha256);
    let read = || verify::read_fully(job.source, job.wanted(), Some(&job.engine.pace));
    match verify::confirm_bad(right, None, read).await {
        Ok(Held::Right) => CopyError::BadRead { store, detail: suspicion.to_string() },
        Ok(Held::Missing) => CopyError::SourceMissing { store },
        Ok(Held::Wrong { size, sha256 }) => CopyError::SourceCorrupt {
            store,
            detail: format!(
                "it has {size} bytes with SHA-256 {sha256} instead of {} with {}",
                right.0, right.1
            ),
        },
        Ok(Held::Unsure) => {
            CopyError::BadRead { store, detail: "each reading returns different content".to_owned() }
        }
        Err(error) => CopyError::Store(error),
    }
}

/// The source store of a copy: the nearest one with a verified replica that is not known to be down.
pub fn source_of<'c>(context: &'c Context, claim: &'c Claim) -> Option<&'c Store> {
    let others = claim.sources.iter().map(String::as_str).filter(|name| *name != claim.store);
    context.stores.nearest_first(others).into_iter().next()
}

async fn prepare<'c>(engine: &'c Engine, claim: &'c Claim, lease: &CopyLease) -> Result<Job<'c>, CopyError> {
    let context = &engine.context;
    let source = source_of(context, claim).ok_or(CopyError::NoSource)?;
    let destination = context
        .stores
        .get(&claim.store)
        .ok_or_else(|| CopyError::Unusable(format!("store {} is no longer configured", claim.store)))?;
    let blocks = match &claim.block_crcs {
        Some(bytes) => {
            Some(BlockCrcs::from_bytes(bytes).map_err(|_| unusable(claim, "list of block checksums"))?)
        }
        None => None,
    };
    let (key, expected) = object_of(claim)?;
    // Local copies are never encrypted.
    let source_envelope = match source.role() {
        StoreRole::Local => None,
        StoreRole::Cloud => {
            let mut conn = context.db.conn().await?;
            replicas::envelope_of(&mut conn, claim.object_id, source.name().as_str()).await?
        }
    };
    let encryptor = encryptor(claim, destination, &key, &expected)?;
    let guard = WriteGuard::new(context, claim, lease);
    Ok(Job { engine, claim, guard, key, source, source_envelope, destination, encryptor, expected, blocks })
}

fn unusable(claim: &Claim, what: &str) -> CopyError {
    CopyError::Unusable(format!("object {} has an invalid {what}", claim.object_id))
}

/// The key and the expected content of a claimed object.
fn object_of(claim: &Claim) -> Result<(ObjectKey, Expected), CopyError> {
    let key = ObjectKey::parse(&claim.key).map_err(|_| unusable(claim, "key"))?;
    let expected = Expected {
        size: unsigned(claim.size),
        sha256: claim.sha256.as_slice().try_into().map_err(|_| unusable(claim, "SHA-256"))?,
        crc64nvme: claim.crc64nvme.as_slice().try_into().map_err(|_| unusable(claim, "checksum"))?,
    };
    Ok((key, expected))
}

/// The encryption of the copy. A resumed upload keeps the form in which it was started, regardless of the current
/// settings.
fn encryptor(
    claim: &Claim,
    destination: &Store,
    key: &ObjectKey,
    expected: &Expected,
) -> Result<Option<Encryptor>, StoreError> {
    if claim.upload_id.is_none() {
        return Encryptor::begin(destination, key, expected.size, &expected.sha256);
    }
    let envelope = EncryptionEnvelope::from_columns(claim.key_id.clone(), claim.envelope.clone());
    envelope.map(|envelope| Encryptor::resume(destination, key, expected.size, &envelope)).transpose()
}

/// Waits until another stream may be opened.
pub(super) async fn stream_of<'j>(job: &'j Job<'_>) -> Result<SemaphorePermit<'j>, CopyError> {
    let permit = job.engine.copy_streams.acquire().await;
    permit.map_err(|_| CopyError::Unusable("the pool of streams is closed".to_owned()))
}

pub(super) fn wrong_size(job: &Job<'_>, length: u64) -> CopyError {
    CopyError::SourceCorrupt {
        store: job.source.name().to_string(),
        detail: format!("it has {length} bytes instead of {}", job.expected.size),
    }
}

/// The content of a source, limited by the worker's bandwidth.
pub(super) type SourceBytes = BoxStream<'static, Result<bytes::Bytes, StoreError>>;

/// The content of the source differs from the checksum recorded at upload.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SourceMismatch(pub(super) String);

/// The metadata of the object, sufficient to rebuild its row from the store. For an encrypted object, the SHA-256 is
/// only in its envelope: unencrypted, it would identify the file to anyone who has the same file.
pub(super) fn put_options(job: &Job<'_>) -> PutOptions {
    let claim = job.claim;
    let mut metadata = label::of_copy(claim, &job.expected).metadata();
    if let Some(encryptor) = &job.encryptor {
        metadata.retain(|name, _| !matches!(*name, metadata::SHA256 | metadata::CRC64NVME));
        metadata.extend(encryptor.envelope.to_metadata());
    }
    PutOptions {
        content_type: Some(claim.content_type.clone()),
        metadata,
        storage_class: claim.storage_class.clone(),
        ..PutOptions::default()
    }
}

/// Classifies a failed read of the source.
pub(super) fn source_error(job: &Job<'_>, error: StoreError) -> CopyError {
    match error.verdict() {
        _ if error.is_archived() => CopyError::SourceArchived { store: job.source.name().to_string() },
        Verdict::SourceMissing => CopyError::SourceMissing { store: job.source.name().to_string() },
        Verdict::Corrupt => {
            CopyError::SourceCorrupt { store: job.source.name().to_string(), detail: error.to_string() }
        }
        _ => CopyError::Store(error),
    }
}

/// Classifies a failed write: of the destination, or of the source being sent.
pub(super) fn sending_error(job: &Job<'_>, error: StoreError) -> CopyError {
    match error.into_source() {
        Ok(source) => reading_error(job, source),
        Err(destination) => CopyError::Store(destination),
    }
}

/// Classifies a failure of the source during sending.
pub(super) fn reading_error(job: &Job<'_>, source: BoxError) -> CopyError {
    let source = match source.downcast::<StoreError>() {
        Ok(error) => return source_error(job, *error),
        Err(other) => other,
    };
    // The lease was lost, or could not be confirmed, in the middle of the body.
    let source = match source.downcast::<CopyError>() {
        Ok(error) => return *error,
        Err(other) => other,
    };
    match source.downcast::<SourceMismatch>() {
        Ok(mismatch) => {
            CopyError::SourceCorrupt { store: job.source.name().to_string(), detail: mismatch.to_string() }
        }
        // The source was inactive, or returned another number of bytes than announced.
        Err(other) => CopyError::BadRead { store: job.source.name().to_string(), detail: other.to_string() },
    }
}
