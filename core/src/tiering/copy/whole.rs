//! A small copy: one GET, one PUT.

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use crate::checksum::Sha256Hasher;
use crate::object::{crypto, verify};
use crate::step::{self, Step};
use crate::store::{Body, BoxError, Gathering, Pieces, SendMode};

use crate::tiering::copy::{
    CopyError, Job, SMALL, SourceBytes, SourceMismatch, put_options, reading_error, sending_error,
    source_error, stream_of, streams_for, wrong_size,
};

/// One GET, one PUT. The destination verifies the content with the given checksum, and so does the worker in transit:
/// content that does not match never becomes an object.
pub(in crate::tiering) async fn copy(job: &Job<'_>) -> Result<String, CopyError> {
    let _stream = match streams_for(&job.engine.context.config.tiering, job.expected.size) {
        0 => None,
        _ => Some(stream_of(job).await?),
    };
    let plain = match job.expected.size {
        0 => stream::empty().boxed(),
        size => {
            let object = crypto::read(job.source, job.wanted(), None)
                .await
                .map_err(|error| source_error(job, error))?;
            if object.total_size != size {
                return Err(wrong_size(job, object.total_size));
            }
            checked(job.engine.pace.limit(object.body), job).boxed()
        }
    };
    let small = job.expected.size <= SMALL;
    let mut options = put_options(job);
    step::reached(Step::CopyRead, job.key.as_str()).await;
    if !small {
        job.guard.before_write().await?;
    }
    let (sent, crc, sending) = match &job.encryptor {
        None => {
            options.sha256 = Some(job.expected.sha256);
            let body = if small {
                let pieces = hold(plain).await.map_err(|error| reading_error(job, error))?;
                job.guard.before_small_write().await?;
                pieces.into()
            } else {
                Body::stream(job.expected.size, plain)
            };
            (job.destination.put(&job.key, body, &options).await, None, SendMode::Whole)
        }
        Some(encryptor) => {
            let (length, encrypted) = encryptor.encrypt(plain, 0, job.expected.size);
            if small {
                let pieces = hold(encrypted).await.map_err(|error| reading_error(job, error))?;
                job.guard.before_small_write().await?;
                options.crc64nvme = Some(pieces.crc64nvme());
                let crc = pieces.crc64nvme();
                let sent = job.destination.put(&job.key, pieces.into(), &options).await;
                (sent, Some(crc), SendMode::WholeEncrypted)
            } else {
                match job.destination.put_trailing(&job.key, Body::stream(length, encrypted), &options).await
                {
                    Ok((receipt, crc)) => (Ok(receipt), Some(crc), SendMode::WholeTrailed),
                    Err(error) => (Err(error), None, SendMode::WholeTrailed),
                }
            }
        }
    };
    let receipt = sent.map_err(|error| sending_error(job, error))?;
    step::reached(Step::CopySent, job.key.as_str()).await;
    let (form, pace) = (job.form(crc), Some(&job.engine.pace));
    verify::verify_object(job.destination, &job.key, &receipt, &form, sending, pace).await?;
    Ok(receipt.etag)
}

/// Reads a small source into memory: its hash is known before the first byte is sent.
async fn hold(source: impl Stream<Item = Result<Bytes, BoxError>>) -> Result<Pieces, BoxError> {
    let mut source = std::pin::pin!(source);
    let mut gathering = Gathering::default();
    while let Some(chunk) = source.next().await {
        gathering.push(&chunk?);
    }
    Ok(gathering.finish())
}

/// The content of the source, ending in an error if its hash is not the recorded one, or if the lease is lost.
fn checked(body: SourceBytes, job: &Job<'_>) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let expected = job.expected.sha256;
    stream::unfold(Some((body, Sha256Hasher::new(), job.guard.clone())), move |state| async move {
        let (mut body, mut hasher, guard) = state?;
        match body.next().await {
            Some(Ok(chunk)) => {
                if let Err(error) = guard.before_chunk().await {
                    return Some((Err(BoxError::from(error)), None));
                }
                hasher.update(&chunk);
                Some((Ok(chunk), Some((body, hasher, guard))))
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
