//! Received bytes, buffered in blocks of one size, so that they can be sent repeatedly.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream};

use super::buffers::Block;
use super::error::BoxError;
use crate::checksum::{Crc64Hasher, Crc64Nvme};

/// Buffers chunks. Uses as much memory as their bytes, rounded up to a block, however small they are.
#[derive(Debug, Default)]
pub struct Gathering {
    chunks: Vec<Bytes>,
    open: Option<Block>,
    length: u64,
    crc: Crc64Hasher,
}

impl Gathering {
    /// Appends a chunk.
    pub fn push(&mut self, mut chunk: &[u8]) {
        self.crc.update(chunk);
        self.length = self.length.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        while !chunk.is_empty() {
            chunk = self.open.get_or_insert_with(Block::borrow).fill(chunk);
            if !chunk.is_empty() {
                self.close();
            }
        }
    }

    /// Bytes buffered so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Everything, in order.
    pub fn finish(mut self) -> Pieces {
        self.close();
        Pieces { chunks: self.chunks.into(), length: self.length, crc: self.crc.finish() }
    }

    fn close(&mut self) {
        self.chunks.extend(self.open.take().map(Block::freeze));
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

    /// Checksum of all bytes.
    pub fn crc64nvme(&self) -> Crc64Nvme {
        self.crc
    }

    /// All bytes contiguously; copied unless they already are.
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
    use crate::buffers::BLOCK;

    fn gather(bytes: &Bytes, sizes: &[usize]) -> Pieces {
        let (mut rest, mut gathering) = (bytes.clone(), Gathering::default());
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            gathering.push(&rest.split_to((*size).min(rest.len())));
        }
        assert_eq!(gathering.length(), u64::try_from(bytes.len()).unwrap());
        gathering.finish()
    }

    #[test]
    fn an_empty_source_has_no_pieces() {
        let pieces = Gathering::default().finish();
        assert_eq!((pieces.length(), pieces.joined().len(), pieces.crc64nvme()), (0, 0, Crc64Nvme::EMPTY));
    }

    #[test]
    fn the_size_of_the_chunks_does_not_change_the_memory() {
        let bytes: Bytes = vec![7; 4 * BLOCK].into();
        for size in [1, 1000, BLOCK, 3 * BLOCK] {
            assert_eq!(gather(&bytes, &[size]).chunks.len(), 4, "{size}");
        }
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
