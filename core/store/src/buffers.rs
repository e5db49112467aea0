//! A pool of reusable memory blocks. Buffering a part takes hundreds of them, and freeing them to the allocator would
//! fragment the heap of the process.

use parking_lot::Mutex;

use bytes::Bytes;

/// Size of a block. Data is copied into blocks: keeping a received chunk would retain the whole buffer that contains
/// it.
pub(super) const BLOCK: usize = 64 * 1024;

/// Unused blocks. As many as were ever in use at once, which is limited by the callers.
static FREE_BLOCKS: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A block in use, returned to the pool when the last reader of its bytes is dropped.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    length: usize,
}

impl Block {
    /// Takes an unused block, or allocates one.
    pub(super) fn borrow() -> Self {
        let resting = FREE_BLOCKS.lock().pop();
        Self { bytes: resting.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice()), length: 0 }
    }

    /// Appends as much of `chunk` as fits, and returns the rest.
    pub(super) fn fill<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let (head, tail) = chunk.split_at(chunk.len().min(self.bytes.len() - self.length));
        if let Some(room) = self.bytes.get_mut(self.length..self.length + head.len()) {
            room.copy_from_slice(head);
            self.length += head.len();
        }
        tail
    }

    /// The content, for reading.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        FREE_BLOCKS.lock().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_accepts_what_fits_and_exposes_only_that() {
        let mut block = Block::borrow();
        assert_eq!(block.fill(b"first "), b"");
        assert_eq!(block.fill(&vec![7; BLOCK]).len(), 6);
        assert_eq!(block.fill(b"no room"), b"no room");
        drop(block.freeze());

        let mut again = Block::borrow();
        assert!(again.as_ref().is_empty(), "what another left in it does not show");
        again.fill(b"second");
        assert_eq!(again.freeze(), "second");
    }
}
