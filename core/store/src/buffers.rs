//! Blocks of memory that are lent, given back and lent again. Gathering a part takes hundreds of them, and what an
//! allocator gets back in so many pieces stays with the process without fitting what is asked for next.

use parking_lot::Mutex;

use bytes::Bytes;

/// Bytes of a block. What is gathered is copied into blocks: a chunk that was kept as it came would hold the whole
/// buffer that it came in.
pub(super) const BLOCK: usize = 64 * 1024;

/// Blocks that nobody uses. As many as were ever lent at once: how many that may be is limited where they are borrowed.
static RESTING: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A block on loan, given back when the last reader of its bytes drops them.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    length: usize,
}

impl Block {
    /// Borrows one that rests, or makes one.
    pub(super) fn borrow() -> Self {
        let resting = RESTING.lock().pop();
        Self { bytes: resting.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice()), length: 0 }
    }

    /// Appends as much of `chunk` as there is room for, and answers the rest.
    pub(super) fn fill<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let (head, tail) = chunk.split_at(chunk.len().min(self.bytes.len() - self.length));
        if let Some(room) = self.bytes.get_mut(self.length..self.length + head.len()) {
            room.copy_from_slice(head);
            self.length += head.len();
        }
        tail
    }

    /// What was put in, to be read.
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
        RESTING.lock().push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_what_fits_and_shows_no_more_than_that() {
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
