//! One CRC-64/NVME per fixed-size block of an object, so that the checksum of every aligned part is known before the
//! part is read, for any part size.

use std::fmt;

use super::{Crc64Hasher, Crc64Nvme, Sha256, Sha256Hasher};

/// Size of a block in bytes. Part sizes of multipart transfers are multiples of it.
pub const BLOCK: u64 = 8 * 1024 * 1024;

/// Why a stored list of block checksums is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockCrcsError {
    /// The length is not a multiple of the size of a checksum.
    #[error("{0} bytes are not a whole number of 8-byte checksums")]
    Length(usize),
}

/// The checksums of an object's blocks, in order. The last block may be shorter than [`BLOCK`]; an empty object has no
/// blocks.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct BlockCrcs(Vec<u64>);

impl BlockCrcs {
    /// The number of blocks of an object of `size` bytes.
    pub const fn count_for(size: u64) -> u64 {
        size.div_ceil(BLOCK)
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no blocks: the object is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The database form: each checksum as eight bytes, big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|crc| crc.to_be_bytes()).collect()
    }

    /// Parses the output of [`BlockCrcs::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlockCrcsError> {
        let (crcs, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(BlockCrcsError::Length(bytes.len()));
        }
        Ok(Self(crcs.iter().map(|crc| u64::from_be_bytes(*crc)).collect()))
    }

    /// The checksum of `blocks` blocks starting at block `first_block`, or up to the end of the object if that comes
    /// first. `None` if the list does not match an object of `total_size` bytes or the range starts past its end.
    pub fn of_range(&self, first_block: u64, blocks: u64, total_size: u64) -> Option<Crc64Nvme> {
        if u64::try_from(self.0.len()).ok()? != Self::count_for(total_size) {
            return None;
        }
        let end_block = first_block.saturating_add(blocks).min(Self::count_for(total_size));
        let range = usize::try_from(first_block).ok()?..usize::try_from(end_block).ok()?;
        let mut crc = Crc64Nvme::EMPTY;
        for (number, block) in (first_block..end_block).zip(self.0.get(range)?) {
            let length = BLOCK.min(total_size - number * BLOCK);
            crc = crc.combine(Crc64Nvme::from_u64(*block), length);
        }
        Some(crc)
    }

    /// The checksum of the whole object of `total_size` bytes; `None` if the list does not match the size.
    pub fn whole(&self, total_size: u64) -> Option<Crc64Nvme> {
        self.of_range(0, u64::MAX, total_size)
    }
}

impl fmt::Debug for BlockCrcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCrcs({} blocks)", self.0.len())
    }
}

/// The digests from one pass over an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectDigest {
    /// Number of bytes.
    pub size: u64,
    /// SHA-256 of the whole object.
    pub sha256: Sha256,
    /// CRC-64/NVME of the whole object.
    pub crc64nvme: Crc64Nvme,
    /// CRC-64/NVME of each block.
    pub blocks: BlockCrcs,
}

/// Computes an [`ObjectDigest`] in one pass.
#[derive(Debug, Clone, Default)]
pub struct UploadHasher {
    size: u64,
    sha256: Sha256Hasher,
    whole: Crc64Nvme,
    block: Crc64Hasher,
    block_length: u64,
    blocks: Vec<u64>,
}

impl UploadHasher {
    /// An empty hasher.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds `bytes`. Takes about 1 ms of CPU per 2 MiB on hardware with SHA instructions: pass small chunks on an async
    /// thread.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.sha256.update(bytes);
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.block_length).unwrap_or(usize::MAX);
            let (head, tail) = bytes.split_at(room.min(bytes.len()));
            self.block.update(head);
            // The length of a slice always fits into 64 bits.
            let length = u64::try_from(head.len()).unwrap_or(u64::MAX);
            self.block_length += length;
            self.size += length;
            if self.block_length == BLOCK {
                self.end_block();
            }
            bytes = tail;
        }
    }

    /// The digest of all bytes.
    pub fn finish(mut self) -> ObjectDigest {
        if self.block_length > 0 {
            self.end_block();
        }
        ObjectDigest {
            size: self.size,
            sha256: self.sha256.finish(),
            crc64nvme: self.whole,
            blocks: BlockCrcs(self.blocks),
        }
    }

    fn end_block(&mut self) {
        let crc = std::mem::take(&mut self.block).finish();
        self.whole = self.whole.combine(crc, self.block_length);
        self.blocks.push(crc.as_u64());
        self.block_length = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| u8::try_from((i * 31 + i / 251) % 256).unwrap()).collect()
    }

    fn digest(bytes: &[u8], piece: usize) -> ObjectDigest {
        let mut hasher = UploadHasher::new();
        for piece in bytes.chunks(piece) {
            hasher.update(piece);
        }
        hasher.finish()
    }

    #[test]
    fn an_empty_object_has_no_block() {
        let digest = UploadHasher::new().finish();
        assert_eq!((digest.size, digest.sha256, digest.crc64nvme), (0, Sha256::of(b""), Crc64Nvme::EMPTY));
        assert!(digest.blocks.is_empty());
        assert_eq!(digest.blocks.whole(0), Some(Crc64Nvme::EMPTY));
    }

    #[test]
    fn every_aligned_part_has_the_checksum_of_its_bytes() {
        let block = usize::try_from(BLOCK).unwrap();
        let bytes = pattern(block * 3 + 12_345);
        let size = u64::try_from(bytes.len()).unwrap();
        let digest = digest(&bytes, 700_001);
        assert_eq!(digest.sha256, Sha256::of(&bytes));
        assert_eq!(digest.crc64nvme, Crc64Nvme::of(&bytes));
        assert_eq!(digest.blocks.len(), 4);
        assert_eq!(digest.blocks.whole(size), Some(digest.crc64nvme));
        for (first, count) in [(0, 1), (0, 2), (1, 2), (2, 2), (3, 1), (3, 9)] {
            let end = ((first + count) * block).min(bytes.len());
            let expected = Crc64Nvme::of(&bytes[first * block..end]);
            let (first, count) = (u64::try_from(first).unwrap(), u64::try_from(count).unwrap());
            assert_eq!(digest.blocks.of_range(first, count, size), Some(expected), "{first}+{count}");
        }
        let stored = BlockCrcs::from_bytes(&digest.blocks.to_bytes()).unwrap();
        assert_eq!(stored, digest.blocks);
    }

    #[test]
    fn a_list_of_invalid_size_is_rejected() {
        let digest = digest(&pattern(100), 7);
        assert_eq!(digest.blocks.whole(BLOCK + 1), None);
        assert_eq!(digest.blocks.of_range(2, 1, 100), None);
        assert_eq!(BlockCrcs::from_bytes(&[1, 2, 3]), Err(BlockCrcsError::Length(3)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn the_size_of_the_pieces_does_not_matter(extra in 0usize..5000, piece in 1usize..3_000_000) {
            let bytes = pattern(usize::try_from(BLOCK).unwrap() + extra);
            let digest = digest(&bytes, piece);
            prop_assert_eq!(digest.crc64nvme, Crc64Nvme::of(&bytes));
            prop_assert_eq!(digest.sha256, Sha256::of(&bytes));
        }
    }
}
