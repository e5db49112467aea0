//! Bytes gathered as they arrive, without copying them together, so that they can be sent and sent again.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};

use super::error::BoxError;
use crate::checksum::{Crc64Hasher, Crc64Nvme};

/// Smaller chunks are copied together: each one that is kept holds the whole buffer that it came in.
const WORTH_KEEPING: usize = 8 * 1024;
/// What small chunks are copied into, in bytes.
const BLOCK: usize = 64 * 1024;

/// Gathers chunks. Takes about as much memory as they have bytes, however small they are.
#[derive(Debug, Default)]
pub struct Gathering {
    chunks: Vec<Bytes>,
    open: BytesMut,
    length: u64,
    crc: Crc64Hasher,
}

impl Gathering {
    /// Appends a chunk.
    pub fn push(&mut self, chunk: Bytes) {
        self.crc.update(&chunk);
        self.length = self.length.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if chunk.len() >= WORTH_KEEPING {
            self.close();
            self.chunks.push(chunk);
            return;
        }
        if self.open.capacity() - self.open.len() < chunk.len() {
            self.close();
            self.open = BytesMut::with_capacity(BLOCK);
        }
        self.open.extend_from_slice(&chunk);
    }

    /// Bytes gathered so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Everything, in its order.
    pub fn finish(mut self) -> Pieces {
        self.close();
        Pieces { chunks: self.chunks.into(), length: self.length, crc: self.crc.finish() }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push(std::mem::take(&mut self.open).freeze());
        }
    }
}

/// Bytes in memory, in pieces. A clone shares them.
#[derive(Debug, Clone)]
pub struct Pieces {
    chunks: Arc<[Bytes]>,
    length: u64,
    crc: Crc64Nvme,
}

impl Pieces {
    /// Exact length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Checksum of all of them.
    pub fn crc64nvme(&self) -> Crc64Nvme {
        self.crc
    }

    /// All of them in one piece; copied unless they are one already.
    pub(super) fn joined(&self) -> Bytes {
        match &*self.chunks {
            [] => Bytes::new(),
            [only] => only.clone(),
            several => several.concat().into(),
        }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        let mut next = 0;
        stream::iter(std::iter::from_fn(move || {
            let chunk = self.chunks.get(next)?.clone();
            next += 1;
            Some(Ok(chunk))
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn gather(bytes: &Bytes, sizes: &[usize]) -> Pieces {
        let (mut rest, mut gathering) = (bytes.clone(), Gathering::default());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            gathering.push(rest.split_to((*size).min(rest.len())));
        }
        assert_eq!(gathering.length(), u64::try_from(bytes.len()).unwrap());
        gathering.finish()
    }

    #[test]
    fn nothing_is_nothing() {
        let pieces = Gathering::default().finish();
        assert_eq!((pieces.length(), pieces.joined().len(), pieces.crc64nvme()), (0, 0, Crc64Nvme::EMPTY));
    }

    #[test]
    fn many_tiny_chunks_become_few_blocks() {
        let bytes: Bytes = vec![7; 4 * BLOCK].into();
        assert!(gather(&bytes, &[1]).chunks.len() <= 5);
        assert_eq!(gather(&bytes, &[BLOCK]).chunks.len(), 4);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_bytes_keep_their_order(
            length in 0_usize..300_000,
            sizes in prop::collection::vec(1_usize..70_000, 1..8),
        ) {
            let bytes: Bytes = (0..=250_u8).cycle().take(length).collect();
            let pieces = gather(&bytes, &sizes);
            prop_assert_eq!(pieces.length(), u64::try_from(length).unwrap());
            prop_assert_eq!(pieces.crc64nvme(), Crc64Nvme::of(&bytes));
            prop_assert!(pieces.joined() == bytes);
        }
    }
}
