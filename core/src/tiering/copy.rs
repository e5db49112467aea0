//! One copy: source to destination with bounded memory, proved on the way and at the end. Writes nothing to the
//! database but the progress of multipart uploads; the switch is [`super::settle`]'s.

use futures_util::stream::BoxStream;
use tokio::sync::SemaphorePermit;

use crate::checksum::{BlockCrcs, Crc64Nvme};
use crate::config::{TieringConfig, VerifyMode};
use crate::context::Context;
use crate::db::replicas::{self, Claim};
use crate::db::unsigned;
use crate::encryption::Seal;
use crate::error::Error;
use crate::ids::LeaseToken;
use crate::object::crypto::{Encryptor, ObjectRef};
use crate::object::verify::{self, Expected, Form, Held, Unproved};
use crate::store::metadata;
use crate::store::{BoxError, ObjectKey, PutOptions, Store, StoreError, StoreRole, Verdict};

use super::{Engine, copy_parts, copy_whole, label};

/// Up to so many bytes are read whole before they are sent.
pub(super) const SMALL: u64 = 256 * 1024;

/// How many of the worker's streams a copy of `size` bytes keeps busy.
pub fn streams_for(config: &TieringConfig, size: u64) -> usize {
    if size <= SMALL {
        0
    } else if size <= config.multipart_threshold_bytes() {
        1
    } else {
        config.part_concurrency.max(1)
    }
}

/// Why a copy was not made, told apart by what has to be done about it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source lost the object: its replica must not be trusted any more.
    #[error("the copy in store {store} is missing")]
    SourceMissing {
        /// Source.
        store: String,
    },
    /// The source's bytes are not those that were uploaded.
    #[error("the copy in store {store} is corrupt: {detail}")]
    SourceCorrupt {
        /// Source.
        store: String,
        /// How it was seen.
        detail: String,
    },
    /// The source's copy is archived. Nothing is wrong with it, but it cannot be read before somebody has it restored.
    #[error("the copy in store {store} is archived; `nightferry file restore-archive` has it restored")]
    SourceArchived {
        /// Source.
        store: String,
    },
    /// A reading of the source went wrong, but a second one did not confirm it: the way was at fault.
    #[error("reading from store {store} went wrong: {detail}")]
    BadRead {
        /// Source.
        store: String,
        /// How it was seen.
        detail: String,
    },
    /// No store holds a verified replica that could be copied.
    #[error("no store that is configured holds a verified copy of this object")]
    NoSource,
    /// The lease ran out and somebody else has the copy now.
    #[error("the lease on this copy was lost")]
    LeaseLost,
    /// A store or the network failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The destination does not know the multipart upload any more, or cannot make the object of its parts; the
    /// next try begins a new one.
    #[error("{0}")]
    UploadForgotten(Box<CopyError>),
    /// The destination holds something else than what was sent.
    #[error("{0}")]
    Unproved(Unproved),
    /// The database failed.
    #[error("{0}")]
    Database(Error),
    /// What the database says of the object cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl From<Unproved> for CopyError {
    fn from(error: Unproved) -> Self {
        match error {
            Unproved::Store(error) => Self::Store(error),
            other => Self::Unproved(other),
        }
    }
}

impl From<Error> for CopyError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// What is copied, from where, to where.
pub(super) struct Job<'c> {
    pub(super) engine: &'c Engine,
    pub(super) claim: &'c Claim,
    pub(super) token: LeaseToken,
    pub(super) key: ObjectKey,
    pub(super) source: &'c Store,
    /// How the source's copy is encrypted, if it is.
    source_seal: Option<Seal>,
    pub(super) destination: &'c Store,
    /// How the destination's is, or will be.
    pub(super) encryptor: Option<Encryptor>,
    pub(super) expected: Expected,
    pub(super) blocks: Option<BlockCrcs>,
}

impl Job<'_> {
    /// What is read.
    pub(super) fn wanted(&self) -> ObjectRef<'_> {
        ObjectRef { key: &self.key, size: self.expected.size, seal: self.source_seal.as_ref() }
    }

    /// What the destination must hold; `sealed` is the checksum of its encrypted bytes.
    pub(super) fn form(&self, sealed: Option<Crc64Nvme>) -> Form {
        match &self.encryptor {
            None => self.expected.plain(),
            Some(encryptor) => self.expected.sealed(encryptor.seal.clone(), sealed),
        }
    }
}

/// A copy that was made and proved.
#[derive(Debug)]
pub struct Copied {
    /// As the destination answered.
    pub etag: String,
    /// How it is encrypted; none when it lies there as it is.
    pub seal: Option<Seal>,
}

/// Copies and proves what was claimed.
///
/// # Errors
/// See [`CopyError`]. Whatever is left at the destination is not yet called present by anybody.
pub async fn copy(engine: &Engine, claim: &Claim, token: LeaseToken) -> Result<Copied, CopyError> {
    let context = &engine.context;
    let job = prepare(engine, claim, token).await?;
    let copied = if job.expected.size > context.config.tiering.multipart_threshold_bytes() {
        copy_parts::copy(&job).await
    } else {
        copy_whole::copy(&job).await
    };
    let etag = match copied {
        Err(error @ (CopyError::SourceMissing { .. } | CopyError::SourceCorrupt { .. })) => {
            return Err(second_look(&job, error).await);
        }
        copied => copied?,
    };
    if context.config.tiering.verify == VerifyMode::ReadBack {
        verify::prove_by_reading(job.destination, &job.key, &job.form(None), Some(&engine.pace)).await?;
    }
    Ok(Copied { etag, seal: job.encryptor.map(|encryptor| encryptor.seal) })
}

/// A source must not be condemned for one bad reading: only what two more agree on is what the store holds.
async fn second_look(job: &Job<'_>, suspicion: CopyError) -> CopyError {
    let store = job.source.name().to_string();
    let right = (job.expected.size, job.expected.sha256);
    let read = || verify::read_whole(job.source, job.wanted(), Some(&job.engine.pace));
    match verify::second_look(right, None, read).await {
        Ok(Held::Right) => CopyError::BadRead { store, detail: suspicion.to_string() },
        Ok(Held::Missing) => CopyError::SourceMissing { store },
        Ok(Held::Wrong { size, sha256 }) => CopyError::SourceCorrupt {
            store,
            detail: format!(
                "it holds {size} bytes with SHA-256 {sha256} instead of {} with {}",
                right.0, right.1
            ),
        },
        Ok(Held::Unsure) => CopyError::BadRead { store, detail: "each reading gives other bytes".to_owned() },
        Err(error) => CopyError::Store(error),
    }
}

/// The store from which a copy is made: the nearest that holds a verified one, and is not known to be down.
pub fn source_of<'c>(context: &'c Context, claim: &'c Claim) -> Option<&'c Store> {
    let others = claim.sources.iter().map(String::as_str).filter(|name| *name != claim.store);
    context.stores.nearest_first(others).into_iter().next()
}

async fn prepare<'c>(engine: &'c Engine, claim: &'c Claim, token: LeaseToken) -> Result<Job<'c>, CopyError> {
    let context = &engine.context;
    let unusable =
        |what: &str| CopyError::Unusable(format!("object {} has an unusable {what}", claim.object_id));
    let source = source_of(context, claim).ok_or(CopyError::NoSource)?;
    let destination = context
        .stores
        .get(&claim.store)
        .ok_or_else(|| CopyError::Unusable(format!("store {} is not configured any more", claim.store)))?;
    let crc: [u8; 8] = claim.crc64nvme.as_slice().try_into().map_err(|_| unusable("checksum"))?;
    let blocks = match &claim.block_crcs {
        Some(bytes) => Some(BlockCrcs::from_bytes(bytes).map_err(|_| unusable("list of block checksums"))?),
        None => None,
    };
    let key = ObjectKey::parse(&claim.key).map_err(|_| unusable("key"))?;
    let expected = Expected {
        size: unsigned(claim.size),
        sha256: claim.sha256.as_slice().try_into().map_err(|_| unusable("SHA-256"))?,
        crc64nvme: Crc64Nvme::from_u64(u64::from_be_bytes(crc)),
    };
    // Local copies are never encrypted.
    let source_seal = match source.role() {
        StoreRole::Local => None,
        StoreRole::Cloud => {
            let mut conn = context.db.conn().await?;
            replicas::seal_of(&mut conn, claim.object_id, source.name().as_str()).await?
        }
    };
    let encryptor = encryptor(claim, destination, &key, &expected)?;
    Ok(Job { engine, claim, token, key, source, source_seal, destination, encryptor, expected, blocks })
}

/// How the copy is encrypted. An upload that is resumed ends as it was begun, whatever the settings say by now.
fn encryptor(
    claim: &Claim,
    destination: &Store,
    key: &ObjectKey,
    expected: &Expected,
) -> Result<Option<Encryptor>, StoreError> {
    if claim.upload_id.is_none() {
        return Encryptor::begin(destination, key, expected.size, &expected.sha256);
    }
    let seal = Seal::from_columns(claim.key_id.clone(), claim.envelope.clone());
    seal.map(|seal| Encryptor::resume(destination, key, expected.size, &seal)).transpose()
}

/// Waits until one more stream may be opened.
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

/// The bytes of a source, at the pace of the worker.
pub(super) type SourceBytes = BoxStream<'static, Result<bytes::Bytes, StoreError>>;

/// The bytes of the source are not those that were recorded at upload.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SourceMismatch(pub(super) String);

/// What goes with the object, enough to rebuild its row from the store alone. The SHA-256 of what is encrypted stands
/// in its envelope: in the open it would tell which file this is to whoever has the same one.
pub(super) fn put_options(job: &Job<'_>) -> PutOptions {
    let claim = job.claim;
    let mut metadata = label::of_copy(claim, &job.expected).metadata();
    if let Some(encryptor) = &job.encryptor {
        metadata.retain(|name, _| !matches!(*name, metadata::SHA256 | metadata::CRC64NVME));
        metadata.extend(encryptor.seal.to_metadata());
    }
    PutOptions {
        content_type: Some(claim.content_type.clone()),
        metadata,
        storage_class: claim.storage_class.clone(),
        ..PutOptions::default()
    }
}

/// What a failed read of the source means.
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

/// What a failed write means: of the destination, or of the source whose bytes were being sent.
pub(super) fn sending_error(job: &Job<'_>, error: StoreError) -> CopyError {
    match error.into_source() {
        Ok(source) => reading_error(job, source),
        Err(destination) => CopyError::Store(destination),
    }
}

/// What it means that the source's bytes did not come as they should.
pub(super) fn reading_error(job: &Job<'_>, source: BoxError) -> CopyError {
    let source = match source.downcast::<StoreError>() {
        Ok(error) => return source_error(job, *error),
        Err(other) => other,
    };
    match source.downcast::<SourceMismatch>() {
        Ok(mismatch) => {
            CopyError::SourceCorrupt { store: job.source.name().to_string(), detail: mismatch.to_string() }
        }
        // It stood still, or gave another number of bytes than it said.
        Err(other) => CopyError::BadRead { store: job.source.name().to_string(), detail: other.to_string() },
    }
}
