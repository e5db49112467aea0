//! One copy: source to destination with bounded memory, proved on the way and at the end. Writes nothing to the
//! database but the progress of multipart uploads; the switch is [`super::settle`]'s.

use std::collections::BTreeMap;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::SemaphorePermit;

use crate::checksum::{BlockCrcs, Crc64Nvme, Sha256Hasher};
use crate::config::{TieringConfig, VerifyMode};
use crate::context::Context;
use crate::db::replicas::Claim;
use crate::db::unsigned;
use crate::error::Error;
use crate::ids::LeaseToken;
use crate::step::{self, Step};
use crate::store::metadata;
use crate::store::{Body, BoxError, Gathering, ObjectKey, PutOptions, Store, StoreError, Verdict};

use super::copy_parts;
use super::verify::{self, Expected, Held, Unproved};

/// Up to so many bytes are read whole before they are sent.
const SMALL: u64 = 256 * 1024;

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
    pub(super) context: &'c Context,
    pub(super) claim: &'c Claim,
    pub(super) token: LeaseToken,
    pub(super) key: ObjectKey,
    pub(super) source: &'c Store,
    pub(super) destination: &'c Store,
    pub(super) expected: Expected,
    pub(super) blocks: Option<BlockCrcs>,
}

/// Copies and proves what was claimed. Answers the destination's ETag.
///
/// # Errors
/// See [`CopyError`]. Whatever is left at the destination is not yet called present by anybody.
pub async fn copy(context: &Context, claim: &Claim, token: LeaseToken) -> Result<String, CopyError> {
    let job = prepare(context, claim, token)?;
    let copied = if job.expected.size > context.config.tiering.multipart_threshold_bytes() {
        copy_parts::copy(&job).await
    } else {
        copy_whole(&job).await
    };
    let etag = match copied {
        Err(error @ (CopyError::SourceMissing { .. } | CopyError::SourceCorrupt { .. })) => {
            return Err(second_look(&job, error).await);
        }
        copied => copied?,
    };
    if context.config.tiering.verify == VerifyMode::ReadBack {
        verify::prove_by_reading(job.destination, &job.key, &job.expected).await?;
    }
    Ok(etag)
}

/// A source must not be condemned for one bad reading: only what two more agree on is what the store holds.
async fn second_look(job: &Job<'_>, suspicion: CopyError) -> CopyError {
    let store = job.source.name().to_string();
    let right = (job.expected.size, job.expected.sha256);
    match verify::second_look(right, None, || verify::read_whole(job.source, &job.key)).await {
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

/// The store from which a copy is made: the nearest that holds a verified one.
pub fn source_of<'c>(context: &'c Context, claim: &'c Claim) -> Option<&'c Store> {
    let others = claim.sources.iter().map(String::as_str).filter(|name| *name != claim.store);
    context.stores.nearest_first(others).into_iter().next()
}

fn prepare<'c>(context: &'c Context, claim: &'c Claim, token: LeaseToken) -> Result<Job<'c>, CopyError> {
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
    Ok(Job {
        context,
        claim,
        token,
        key: ObjectKey::parse(&claim.key).map_err(|_| unusable("key"))?,
        source,
        destination,
        expected: Expected {
            size: unsigned(claim.size),
            sha256: claim.sha256.as_slice().try_into().map_err(|_| unusable("SHA-256"))?,
            crc64nvme: Crc64Nvme::from_u64(u64::from_be_bytes(crc)),
        },
        blocks,
    })
}

/// One GET, one PUT. The destination checks the bytes against the SHA-256 it is told, and so do we on the way:
/// bytes that do not match never become an object.
async fn copy_whole(job: &Job<'_>) -> Result<String, CopyError> {
    let mut options = put_options(job);
    options.sha256 = Some(job.expected.sha256);
    let _stream;
    let body = if job.expected.size == 0 {
        _stream = None;
        Body::Bytes(bytes::Bytes::new())
    } else {
        _stream = match streams_for(&job.context.config.tiering, job.expected.size) {
            0 => None,
            _ => Some(stream_of(job).await?),
        };
        let object = job.source.get(&job.key, None).await.map_err(|error| source_error(job, error))?;
        if object.length != job.expected.size {
            return Err(wrong_size(job, object.length));
        }
        let checked = checked(job.context.pace.limit(object.body), job);
        if job.expected.size <= SMALL {
            hold(checked).await.map_err(|error| reading_error(job, error))?
        } else {
            Body::stream(job.expected.size, checked)
        }
    };
    step::reached(Step::CopyRead, job.key.as_str()).await;
    let receipt =
        job.destination.put(&job.key, body, &options).await.map_err(|error| sending_error(job, error))?;
    step::reached(Step::CopySent, job.key.as_str()).await;
    verify::prove(job.destination, &job.key, &receipt, &job.expected).await?;
    Ok(receipt.etag)
}

/// Waits until one more stream may be opened.
pub(super) async fn stream_of<'j>(job: &'j Job<'_>) -> Result<SemaphorePermit<'j>, CopyError> {
    let permit = job.context.copy_streams.acquire().await;
    permit.map_err(|_| CopyError::Unusable("the pool of streams is closed".to_owned()))
}

/// Takes a small source into memory: its hash is known before the first byte is sent, and it is sent at once.
async fn hold(source: impl Stream<Item = Result<bytes::Bytes, BoxError>>) -> Result<Body, BoxError> {
    let mut source = std::pin::pin!(source);
    let mut gathering = Gathering::default();
    while let Some(chunk) = source.next().await {
        gathering.push(&chunk?);
    }
    Ok(gathering.finish().into())
}

pub(super) fn wrong_size(job: &Job<'_>, length: u64) -> CopyError {
    CopyError::SourceCorrupt {
        store: job.source.name().to_string(),
        detail: format!("it has {length} bytes instead of {}", job.expected.size),
    }
}

/// The bytes of a source, at the pace of the worker.
pub(super) type SourceBytes = BoxStream<'static, Result<bytes::Bytes, StoreError>>;

/// The bytes of the source, ending in an error when their hash is not the recorded one.
fn checked(
    body: SourceBytes,
    job: &Job<'_>,
) -> impl Stream<Item = Result<bytes::Bytes, BoxError>> + Send + 'static {
    let expected = job.expected.sha256;
    stream::unfold(Some((body, Sha256Hasher::new())), move |state| async move {
        let (mut body, mut hasher) = state?;
        match body.next().await {
            Some(Ok(chunk)) => {
                hasher.update(&chunk);
                Some((Ok(chunk), Some((body, hasher))))
            }
            Some(Err(error)) => Some((Err(BoxError::from(error)), None)),
            None => {
                let actual = hasher.finish();
                let error = SourceMismatch(format!("its SHA-256 is {actual} instead of {expected}"));
                (actual != expected).then(|| (Err(BoxError::from(error)), None))
            }
        }
    })
}

/// The bytes of the source are not those that were recorded at upload.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SourceMismatch(pub(super) String);

/// What goes with the object, enough to rebuild its row from the store alone.
pub(super) fn put_options(job: &Job<'_>) -> PutOptions {
    let claim = job.claim;
    let mut metadata = BTreeMap::from([
        (metadata::OBJECT, claim.object_id.to_string()),
        (metadata::OWNER, claim.owner_id.to_string()),
        (metadata::SHA256, job.expected.sha256.to_string()),
        (metadata::TIME, claim.stored_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
    ]);
    if let Some(name) = &claim.filename {
        metadata.insert(metadata::NAME, name.clone());
    }
    if let (Some(file), Some(version)) = (claim.file_id, claim.version) {
        metadata.insert(metadata::FILE, file.to_string());
        metadata.insert(metadata::VERSION, version.to_string());
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
        Verdict::SourceMissing => CopyError::SourceMissing { store: job.source.name().to_string() },
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
fn reading_error(job: &Job<'_>, source: BoxError) -> CopyError {
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
