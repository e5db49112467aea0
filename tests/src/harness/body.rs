//! Content for tests: incompressible, repeatable, generated on the fly.

use std::sync::LazyLock;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use nightferry_core::checksum::Sha256;
use nightferry_core::object::write::{BodyError, Incoming};

const CHUNK: usize = 64 * 1024;

/// Incompressible data, twice the size of a chunk. Each chunk is copied from some offset and starts with eight unique
/// bytes, because generating every byte takes most of a test's time in unoptimised builds.
static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    (0..2 * CHUNK / 8).flat_map(|_| xorshift(&mut state).to_le_bytes()).collect()
});

/// The generator xorshift64*.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// A reproducible stream of pseudo-random bytes, as upload content.
pub struct Pattern {
    state: u64,
    left: u64,
}

/// `length` bytes, determined by `seed`.
pub fn pattern(seed: u64, length: u64) -> Pattern {
    Pattern { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, left: length }
}

impl Pattern {
    fn chunk(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let length = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let own = xorshift(&mut self.state);
        let place = usize::try_from(own >> 48).unwrap();
        let mut bytes = RANDOM[place..place + length].to_vec();
        for (byte, own) in bytes.iter_mut().zip(own.to_le_bytes()) {
            *byte = own;
        }
        self.left -= length as u64;
        Some(bytes.into())
    }

    /// The whole content in memory.
    pub fn bytes(mut self) -> Bytes {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk() {
            all.extend_from_slice(&chunk);
        }
        all.into()
    }

    /// The hash of the content.
    pub fn sha256(mut self) -> Sha256 {
        let mut hasher = nightferry_core::checksum::Sha256Hasher::new();
        while let Some(chunk) = self.chunk() {
            hasher.update(&chunk);
        }
        hasher.finish()
    }

    /// The content as a stream, for HTTP clients.
    pub fn stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        stream::unfold(self, |mut pattern| async move { pattern.chunk().map(|chunk| (Ok(chunk), pattern)) })
    }
}

impl Incoming for Pattern {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        self.chunk().map(Ok)
    }

    fn at_least(&self) -> u64 {
        self.left
    }

    fn at_most(&self) -> Option<u64> {
        Some(self.left)
    }
}
