//! Streaming encryption and decryption, with one chunk in memory.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{self, Stream, StreamExt as _};

use super::chunks::{CHUNK, Cipher, Span, TAG, Unauthentic};

type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The source of the plaintext has more bytes than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source has more bytes than expected")]
pub struct SourceTooLong;

/// Why decryption failed.
#[derive(Debug)]
pub enum Broken<E> {
    /// The encrypted bytes could not be read.
    Source(E),
    /// The bytes were read, but are not authentic.
    Unauthentic(Unauthentic),
}

/// Assembles chunks from pieces of any size.
struct Gatherer<S> {
    source: S,
    rest: Bytes,
}

impl<S, E> Gatherer<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// Reads the next `wanted` bytes into a buffer with room for a tag; fewer at the end of the source.
    async fn next(&mut self, wanted: u64) -> Result<BytesMut, E> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::with_capacity(wanted.saturating_add(usize::try_from(TAG).unwrap_or(0)));
        while chunk.len() < wanted && self.has_more().await? {
            let take = self.rest.len().min(wanted - chunk.len());
            chunk.extend_from_slice(&self.rest.split_to(take));
        }
        Ok(chunk)
    }

    /// Whether anything follows; reads the next piece of the source if necessary.
    async fn has_more(&mut self) -> Result<bool, E> {
        while self.rest.is_empty() {
            match self.source.next().await {
                Some(piece) => self.rest = piece?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Encrypts `plain`, which starts at chunk number `first_chunk` and consists of whole chunks or ends with the object. A
/// source that fails at its very end fails here too, after the last chunk; one that ends early ends here early.
pub fn encrypt<S>(
    plain: S,
    cipher: Arc<Cipher>,
    first_chunk: u64,
    length: u64,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + 'static,
{
    let last = first_chunk + length.div_ceil(CHUNK).max(1) - 1;
    let state = Some((Gatherer { source: plain, rest: Bytes::new() }, first_chunk));
    stream::unfold(state, move |state| {
        let cipher = Arc::clone(&cipher);
        async move {
            let (mut source, index) = state?;
            if index > last {
                return match source.has_more().await {
                    Ok(false) => None,
                    Ok(true) => Some((Err(SourceTooLong.into()), None)),
                    Err(error) => Some((Err(error), None)),
                };
            }
            let wanted = cipher.chunk_length(index);
            let mut chunk = match source.next(wanted).await {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(error), None)),
            };
            if u64::try_from(chunk.len()).unwrap_or(u64::MAX) < wanted {
                // The sender notices the missing bytes and reports an error.
                return None;
            }
            match cipher.encrypt(index, &mut chunk) {
                Ok(()) => Some((Ok(chunk.freeze()), Some((source, index + 1)))),
                Err(error) => Some((Err(error.into()), None)),
            }
        }
    })
}

/// Decrypts `encrypted`, the encrypted bytes of `span`. Returns only authenticated bytes.
pub fn decrypt<S, E>(
    encrypted: S,
    cipher: Arc<Cipher>,
    span: Span,
) -> impl Stream<Item = Result<Bytes, Broken<E>>> + Send + 'static
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: Send + 'static,
{
    let source = Gatherer { source: encrypted, rest: Bytes::new() };
    let state = Some((source, span.first_chunk, span.skip, span.take, true));
    stream::unfold(state, move |state| {
        let cipher = Arc::clone(&cipher);
        async move {
            let (mut source, index, skip, left, first) = state?;
            // An empty object also has a chunk, which authenticates that it is empty.
            if left == 0 && !first {
                return None;
            }
            let mut chunk = match source.next(cipher.chunk_length(index) + TAG).await {
                Ok(chunk) => chunk,
                Err(error) => return Some((Err(Broken::Source(error)), None)),
            };
            if let Err(error) = cipher.decrypt(index, &mut chunk) {
                return Some((Err(Broken::Unauthentic(error)), None));
            }
            let mut plain = chunk.freeze();
            plain.advance(usize::try_from(skip).unwrap_or(usize::MAX).min(plain.len()));
            plain.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let left = left.saturating_sub(u64::try_from(plain.len()).unwrap_or(u64::MAX));
            if plain.is_empty() && left == 0 {
                return None;
            }
            Some((Ok(plain), Some((source, index + 1, 0, left, false))))
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::super::chunks::encrypted_size;
    use super::super::key::Keyring;
    use super::*;
    use crate::checksum::Sha256;

    fn cipher(size: u64) -> Arc<Cipher> {
        let ring = Keyring::parse("k:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", true).unwrap();
        let (_, contents) = ring.new_envelope("key", &Sha256::of(b"")).unwrap().unwrap();
        Arc::new(Cipher::new(&contents.data_key, size))
    }

    fn bytes(size: u64) -> Bytes {
        (0..size).map(|i| u8::try_from((i * 31 + i / 251) % 256).unwrap()).collect::<Vec<_>>().into()
    }

    fn pieces(
        bytes: &Bytes,
        of: usize,
    ) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + Unpin + use<> {
        let pieces: Vec<_> = bytes.chunks(of).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces)
    }

    async fn all<E: std::fmt::Debug>(stream: impl Stream<Item = Result<Bytes, E>>) -> Result<Vec<u8>, E> {
        let mut stream = std::pin::pin!(stream);
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    fn open_range(
        encrypted: &[u8],
        cipher: &Arc<Cipher>,
        first: u64,
        length: u64,
    ) -> impl Stream<Item = Result<Bytes, Broken<BoxError>>> + use<> {
        let span = Span::of(cipher.size(), first, length).unwrap();
        let from = usize::try_from(span.encrypted_first).unwrap();
        let to = from + usize::try_from(span.encrypted_length).unwrap();
        decrypt(pieces(&Bytes::copy_from_slice(&encrypted[from..to]), 7_777), Arc::clone(cipher), span)
    }

    #[tokio::test]
    async fn encrypted_objects_decrypt_whole_and_in_ranges() {
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17] {
            let (cipher, plain) = (cipher(size), bytes(size));
            let encrypted = all(encrypt(pieces(&plain, 10_000), Arc::clone(&cipher), 0, size)).await.unwrap();
            assert_eq!(u64::try_from(encrypted.len()).unwrap(), encrypted_size(size));
            assert_eq!(all(open_range(&encrypted, &cipher, 0, u64::MAX)).await.unwrap(), plain, "{size}");
            for (first, length) in
                [(0, 1), (CHUNK - 1, 2), (CHUNK, CHUNK), (1, 2 * CHUNK), (2 * CHUNK + 3, 999)]
            {
                if first >= size {
                    continue;
                }
                let end = (first + length).min(size);
                let wanted = &plain[usize::try_from(first).unwrap()..usize::try_from(end).unwrap()];
                assert_eq!(all(open_range(&encrypted, &cipher, first, length)).await.unwrap(), wanted);
            }
        }
    }

    #[tokio::test]
    async fn separately_encrypted_parts_form_the_same_object() {
        let size = 5 * CHUNK + 9;
        let (cipher, plain) = (cipher(size), bytes(size));
        let whole = all(encrypt(pieces(&plain, 9_999), Arc::clone(&cipher), 0, size)).await.unwrap();
        let part = usize::try_from(2 * CHUNK).unwrap();
        let mut parts = Vec::new();
        for (number, bytes) in (0..).zip(plain.chunks(part)) {
            let bytes = Bytes::copy_from_slice(bytes);
            let (first, length) = (2 * number, u64::try_from(bytes.len()).unwrap());
            let encrypted = encrypt(pieces(&bytes, 333), Arc::clone(&cipher), first, length);
            parts.extend(all(encrypted).await.unwrap());
        }
        assert!(parts == whole, "a resumed part has the same bytes");
    }

    #[tokio::test]
    async fn a_source_that_fails_at_its_end_fails_after_the_last_chunk() {
        let plain = bytes(CHUNK);
        let failing = pieces(&plain, 1000).chain(stream::iter([Err(BoxError::from("the hash differs"))]));
        let encrypted: Vec<_> = encrypt(failing, cipher(CHUNK), 0, CHUNK).collect().await;
        assert_eq!(encrypted.len(), 2);
        assert_eq!(encrypted[1].as_ref().unwrap_err().to_string(), "the hash differs");
        let more = bytes(CHUNK + 1);
        let encrypted: Vec<_> = encrypt(pieces(&more, 1000), cipher(CHUNK), 0, CHUNK).collect().await;
        assert!(encrypted[1].as_ref().unwrap_err().is::<SourceTooLong>());
        let encrypted: Vec<_> =
            encrypt(pieces(&plain, 1000), cipher(CHUNK + 1), 0, CHUNK + 1).collect().await;
        assert_eq!(encrypted.len(), 1, "a truncated object ends early");
    }

    #[tokio::test]
    async fn modified_content_is_never_returned() {
        let size = 2 * CHUNK;
        let (cipher, plain) = (cipher(size), bytes(size));
        let mut encrypted = all(encrypt(pieces(&plain, 10_000), Arc::clone(&cipher), 0, size)).await.unwrap();
        let second = usize::try_from(CHUNK + TAG).unwrap();
        encrypted[second + 5] ^= 4;
        let opened: Vec<_> = open_range(&encrypted, &cipher, 0, size).collect().await;
        assert_eq!(opened.len(), 2);
        assert_eq!(opened[0].as_ref().unwrap(), &plain[..usize::try_from(CHUNK).unwrap()]);
        assert!(matches!(opened[1], Err(Broken::Unauthentic(Unauthentic(1)))));
        assert_eq!(all(open_range(&encrypted, &cipher, 10, 100)).await.unwrap(), &plain[10..110]);
    }
}
