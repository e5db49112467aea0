//! A large copy in parallel parts, each verified by the destination and recorded in the database, so that after a crash
//! only missing parts are sent.

use std::collections::BTreeMap;

use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use crate::checksum::{BLOCK, Crc64Hasher, Crc64Nvme};
use crate::db::transfer_parts::{self, TransferPart};
use crate::db::{replicas, signed, unsigned};
use crate::encryption::encrypted_size;
use crate::error::Result;
use crate::object::crypto;
use crate::object::verify::{self, Unverified};
use crate::step::{self, Step};
use crate::store::{
    Body, BoxError, ByteRange, CompletedPart, Scope, SendMode, StoreError, UploadId, Verdict,
};

use crate::tiering::copy::lease::WriteGuard;
use crate::tiering::copy::{
    CopyError, Job, SourceBytes, SourceMismatch, put_options, sending_error, source_error, stream_of,
};
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::reap;

/// Maximum number of parts in a multipart upload (S3 `CreateMultipartUpload`).
pub(in crate::tiering) const MAX_PARTS: u64 = 10_000;

/// A part of the object.
#[derive(Debug, Clone, Copy)]
struct Part {
    number: u32,
    offset: u64,
    length: u64,
}

/// Makes a multipart copy, resuming where an earlier worker stopped. Returns the verified ETag of the destination.
pub(in crate::tiering) async fn copy(job: &Job<'_>) -> Result<String, CopyError> {
    let (upload, part_size) = begin_or_resume(job).await?;
    let done = finished_parts(job, &upload).await?;
    let missing: Vec<Part> =
        parts(job.expected.size, part_size).filter(|part| !done.contains_key(&part.number)).collect();
    let sent: Vec<(u32, Finished)> = stream::iter(missing)
        .map(|part| send(job, &upload, part))
        .buffer_unordered(job.engine.context.config.tiering.part_concurrency.max(1))
        .try_collect()
        .await
        .map_err(|error: CopyError| error)?;
    let mut all = done;
    all.extend(sent);
    if let Err(suspicion) = verify_parts(job, &all) {
        // It is unknown which part was read incorrectly, and the destination has it: the next attempt creates a new
        // upload.
        return Err(match abandon_upload(job, &upload, suspicion).await {
            CopyError::UploadForgotten(suspicion) => *suspicion,
            other => other,
        });
    }
    complete(job, &upload, all).await
}

/// The state of a part at the destination.
#[derive(Debug, Clone)]
struct Finished {
    etag: String,
    /// Size of the plaintext.
    length: u64,
    /// CRC of the plaintext.
    crc: Crc64Nvme,
    /// CRC of the stored part, if encrypted.
    encrypted: Option<Crc64Nvme>,
}

/// The parts of an object: all of the same size except the last.
fn parts(size: u64, part_size: u64) -> impl Iterator<Item = Part> {
    let count = size.div_ceil(part_size);
    (0..count).map(move |index| {
        let offset = index * part_size;
        Part {
            number: u32::try_from(index + 1).unwrap_or(u32::MAX),
            offset,
            length: part_size.min(size - offset),
        }
    })
}

/// The configured part size, or the next multiple of a block size for which 10,000 parts are sufficient.
fn part_size(configured: u64, size: u64) -> u64 {
    let least = size.div_ceil(MAX_PARTS);
    configured.max(least).div_ceil(BLOCK) * BLOCK
}

async fn begin_or_resume(job: &Job<'_>) -> Result<(UploadId, u64), CopyError> {
    if let (Some(upload), Some(size)) = (&job.claim.upload_id, job.claim.part_size) {
        tracing::info!(target: "nightferry::sync", object = %job.claim.object_id, store = %job.claim.store, "resuming a multipart upload");
        return Ok((UploadId::new(upload.clone()), unsigned(size)));
    }
    // A worker that died between creating an upload and recording it left one that would never be found otherwise.
    abort_strays(job).await?;
    let size = part_size(job.engine.context.config.tiering.part_size_bytes(), job.expected.size);
    let options = put_options(job);
    job.guard.before_write().await?;
    let upload = if is_checked(job) {
        job.destination.create_multipart(&job.key, &options).await?
    } else {
        job.destination.create_unchecked_multipart(&job.key, &options).await?
    };
    step::reached(Step::PartsBegun, job.key.as_str()).await;
    let ours = retry_on_db_outage(|| note_upload(job, Some((&upload, size)))).await?;
    if !ours {
        // Nobody else can know this id: it was not recorded.
        job.destination.abort_multipart(&job.key, &upload).await?;
        return Err(CopyError::LeaseLost);
    }
    Ok((upload, size))
}

/// Aborts the uploads of the key that no row has. While the lease is held, no other worker creates one.
async fn abort_strays(job: &Job<'_>) -> Result<(), CopyError> {
    for stray in reap::strays(job.destination, &job.key).await? {
        job.guard.before_write().await?;
        tracing::info!(target: "nightferry::sync", store = %job.destination.name(), key = %job.key, upload = %stray, "aborted an \
            unknown upload");
        job.destination.abort_multipart(&job.key, &stray).await?;
    }
    Ok(())
}

/// Whether every part has a checksum: known beforehand, or trailing its ciphertext. A store with checksum verification
/// enabled requires one for every part.
fn is_checked(job: &Job<'_>) -> bool {
    job.blocks.is_some() || job.encryptor.is_some()
}

/// Records the multipart upload and its part size, or that there is none any more. Returns whether the lease is still
/// held.
async fn note_upload(job: &Job<'_>, upload: Option<(&UploadId, u64)>) -> Result<bool> {
    let (id, size) = upload.map(|(id, size)| (id.as_str(), signed(size))).unzip();
    let mut conn = job.engine.context.db.conn().await?;
    let envelope = job.encryptor.as_ref().map(|encryptor| &encryptor.envelope);
    replicas::begin_multipart(
        &mut conn,
        job.claim.object_id,
        &job.claim.store,
        job.guard.token(),
        id,
        size,
        envelope,
    )
    .await
}

async fn finished_parts(job: &Job<'_>, upload: &UploadId) -> Result<BTreeMap<u32, Finished>, CopyError> {
    let mut conn = job.engine.context.db.conn().await?;
    let rows =
        transfer_parts::of_upload(&mut conn, job.claim.object_id, &job.claim.store, upload.as_str()).await?;
    let mut parts = BTreeMap::new();
    for row in rows {
        let unusable = |_| CopyError::Unusable(format!("part {} has an invalid checksum", row.number));
        let read = |bytes: &[u8]| Crc64Nvme::try_from(bytes).map_err(unusable);
        let finished = Finished {
            length: unsigned(row.size),
            crc: read(&row.crc64nvme)?,
            encrypted: row.sealed_crc64nvme.as_deref().map(read).transpose()?,
            etag: row.etag,
        };
        parts.insert(u32::try_from(row.number).unwrap_or(0), finished);
    }
    Ok(parts)
}

async fn send(job: &Job<'_>, upload: &UploadId, part: Part) -> Result<(u32, Finished), CopyError> {
    let known = job.blocks.as_ref().and_then(|blocks| {
        blocks.of_range(part.offset / BLOCK, part.length.div_ceil(BLOCK), job.expected.size)
    });
    let range = ByteRange::of_length(part.offset, part.length);
    let _stream = stream_of(job).await?;
    let object =
        crypto::read(job.source, job.wanted(), range).await.map_err(|error| source_error(job, error))?;
    if object.total_size != job.expected.size {
        return Err(crate::tiering::copy::wrong_size(job, object.total_size));
    }
    let (seen, checked) = checked(job.engine.pace.limit(object.body), known, job.guard.clone());
    job.guard.before_write().await?;
    let receipt = match &job.encryptor {
        None => {
            let body = Body::stream(part.length, checked);
            job.destination.put_part(&job.key, upload, part.number, body, known).await
        }
        // The checksum of ciphertext is known after it has been sent.
        Some(encryptor) => {
            let (length, encrypted) = encryptor.encrypt(checked, part.offset, part.length);
            let body = Body::stream(length, encrypted);
            job.destination.put_part_trailing(&job.key, upload, part.number, body).await
        }
    };
    let receipt = match receipt {
        Err(error) if error.is_no_such_upload() => {
            return Err(abandon_upload(job, upload, error.into()).await);
        }
        other => other.map_err(|error| sending_error(job, error))?,
    };
    let crc = match known {
        Some(crc) => crc,
        None => seen.await.map_err(|_| CopyError::Unusable("a part's checksum was lost".to_owned()))?,
    };
    let encrypted = job.encryptor.as_ref().and(receipt.crc64nvme);
    let finished = Finished { etag: receipt.etag, length: part.length, crc, encrypted };
    step::reached(Step::PartSent, job.key.as_str()).await;
    remember(job, upload, part.number, &finished).await?;
    Ok((part.number, finished))
}

/// The content of one part, ending in an error if its CRC is not the recorded one, or if the lease is lost; and its
/// actual CRC.
fn checked(
    body: SourceBytes,
    known: Option<Crc64Nvme>,
    guard: WriteGuard,
) -> (
    tokio::sync::oneshot::Receiver<Crc64Nvme>,
    impl Stream<Item = Result<bytes::Bytes, BoxError>> + Send + 'static,
) {
    let (tell, seen) = tokio::sync::oneshot::channel();
    let bytes = stream::unfold(Some((body, Crc64Hasher::new(), tell, guard)), move |state| async move {
        let (mut body, mut hasher, tell, guard) = state?;
        match body.next().await {
            Some(Ok(chunk)) => {
                if let Err(error) = guard.before_chunk().await {
                    return Some((Err(BoxError::from(error)), None));
                }
                hasher.update(&chunk);
                Some((Ok(chunk), Some((body, hasher, tell, guard))))
            }
            Some(Err(error)) => Some((Err(BoxError::from(error)), None)),
            None => {
                let actual = hasher.finish();
                // There is no receiver if the CRC was known before.
                let _ = tell.send(actual);
                let wrong = known.filter(|known| *known != actual)?;
                let error = SourceMismatch(format!("a part's CRC-64/NVME is {actual} instead of {wrong}"));
                Some((Err(BoxError::from(error)), None))
            }
        }
    });
    (seen, bytes)
}

async fn remember(job: &Job<'_>, upload: &UploadId, number: u32, part: &Finished) -> Result<(), CopyError> {
    let bytes = |crc: Crc64Nvme| crc.as_u64().to_be_bytes().to_vec();
    let row = TransferPart {
        object_id: job.claim.object_id,
        store: job.claim.store.clone(),
        upload_id: upload.as_str().to_owned(),
        number: i32::try_from(number).unwrap_or(i32::MAX),
        size: signed(part.length),
        etag: part.etag.clone(),
        crc64nvme: bytes(part.crc),
        sealed_crc64nvme: part.encrypted.map(bytes),
    };
    let insert = async || transfer_parts::insert(&mut *job.engine.context.db.conn().await?, &row).await;
    Ok(retry_on_db_outage(insert).await?)
}

/// The checksums of the parts combine to that of the object only if the source returned the right content.
fn verify_parts(job: &Job<'_>, parts: &BTreeMap<u32, Finished>) -> Result<(), CopyError> {
    let combined = parts.values().fold(Crc64Nvme::EMPTY, |whole, part| whole.combine(part.crc, part.length));
    if combined == job.expected.crc64nvme {
        return Ok(());
    }
    let detail = format!("its CRC-64/NVME is {combined} instead of {}", job.expected.crc64nvme);
    Err(CopyError::SourceCorrupt { store: job.source.name().to_string(), detail })
}

/// The combined checksum of all encrypted parts.
fn encrypted_whole(parts: &BTreeMap<u32, Finished>) -> Crc64Nvme {
    parts.values().fold(Crc64Nvme::EMPTY, |whole, part| {
        whole.combine(part.encrypted.unwrap_or(Crc64Nvme::EMPTY), encrypted_size(part.length))
    })
}

async fn complete(
    job: &Job<'_>,
    upload: &UploadId,
    parts: BTreeMap<u32, Finished>,
) -> Result<String, CopyError> {
    let checked = is_checked(job);
    let encrypted = job.encryptor.as_ref().map(|_| encrypted_whole(&parts));
    let list: Vec<CompletedPart> = parts
        .into_iter()
        .map(|(number, part)| CompletedPart {
            number,
            etag: part.etag,
            crc64nvme: checked.then(|| part.encrypted.unwrap_or(part.crc)),
        })
        .collect();
    let crc = checked.then(|| encrypted.unwrap_or(job.expected.crc64nvme));
    let form = job.form(encrypted);
    let sending = if job.encryptor.is_some() { SendMode::TrailedParts } else { SendMode::Parts };
    step::reached(Step::PartsSent, job.key.as_str()).await;
    job.guard.before_end_of(upload).await?;
    let completed = job.destination.complete_multipart(&job.key, upload, &list, crc).await;
    step::reached(Step::PartsJoined, job.key.as_str()).await;
    let pace = Some(&job.engine.pace);
    match completed {
        Ok(receipt) => {
            match verify::verify_object(job.destination, &job.key, &receipt, &form, sending, pace).await {
                Ok(()) => Ok(receipt.etag),
                // The check failed: the next attempt repeats it.
                Err(Unverified::Store(error)) => Err(error.into()),
                Err(wrong) => Err(abandon_upload(job, upload, wrong.into()).await),
            }
        }
        Err(error) if error.is_no_such_upload() => {
            // An earlier call may have completed the object, and its response was lost.
            match verify::verify_by_head(job.destination, &job.key, &form, pace).await {
                Ok(()) => match job.destination.head(&job.key).await? {
                    Some(head) => Ok(head.etag),
                    None => Err(abandon_upload(job, upload, error.into()).await),
                },
                Err(Unverified::Store(error)) => Err(error.into()),
                Err(_) => Err(abandon_upload(job, upload, error.into()).await),
            }
        }
        // The object can never be completed from these parts: one was acknowledged and not stored, or stored
        // incorrectly.
        Err(error) if is_refusal(&error) => Err(abandon_upload(job, upload, error.into()).await),
        Err(error) => Err(error.into()),
    }
}

/// Whether the destination understood the request and rejects the parts, not the access to them.
fn is_refusal(error: &StoreError) -> bool {
    matches!(error.verdict(), Verdict::Permanent | Verdict::Corrupt) && error.scope() == Scope::Object
}

/// Aborts the upload, so that the next attempt starts from scratch. Also if the destination reports that the upload
/// does not exist: some do so for an upload with missing parts, and keep the rest. Only the upload of this lease: the one
/// of a worker that took over the copy is left alone.
async fn abandon_upload(job: &Job<'_>, upload: &UploadId, error: CopyError) -> CopyError {
    if let Err(lost) = job.guard.before_end_of(upload).await {
        return lost;
    }
    match job.destination.abort_multipart(&job.key, upload).await {
        Ok(()) => forget_upload(job, error).await,
        // The upload remains recorded, and the next attempt encounters it again.
        Err(unreachable) => unreachable.into(),
    }
}

/// The upload is unusable: the next attempt creates a new one.
async fn forget_upload(job: &Job<'_>, error: CopyError) -> CopyError {
    let forget = async || {
        // A worker that lost the lease must not delete the parts of the new holder.
        if note_upload(job, None).await? {
            let mut conn = job.engine.context.db.conn().await?;
            transfer_parts::delete(&mut conn, job.claim.object_id, &job.claim.store).await?;
        }
        Ok(())
    };
    match retry_on_db_outage(forget).await {
        Ok(()) => CopyError::UploadForgotten(Box::new(error)),
        Err(error) => CopyError::Database(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_object_without_gap_or_overlap() {
        for (size, part_size) in [(1, BLOCK), (BLOCK, BLOCK), (BLOCK + 1, BLOCK), (10 * BLOCK - 1, 4 * BLOCK)]
        {
            let mut at = 0;
            for (index, part) in parts(size, part_size).enumerate() {
                assert_eq!(part.offset, at);
                assert_eq!(u64::from(part.number), u64::try_from(index).unwrap() + 1);
                at += part.length;
            }
            assert_eq!(at, size);
        }
    }

    #[test]
    fn huge_objects_get_parts_that_fit_ten_thousand() {
        let five_tib = 5 * 1024 * 1024 * 1024 * 1024;
        let size = part_size(32 * 1024 * 1024, five_tib);
        assert_eq!(size % BLOCK, 0);
        assert!(five_tib.div_ceil(size) <= MAX_PARTS);
        assert_eq!(part_size(32 * 1024 * 1024, 1), 32 * 1024 * 1024);
    }
}
