//! What happened to the objects of [`super::MemoryS3`] servers, in one order for all of them: for tests that check what
//! was known before a deletion.

use std::sync::atomic::{AtomicU64, Ordering};

use nightferry_core::checksum::Sha256;

static MOMENT: AtomicU64 = AtomicU64::new(0);

/// A number larger than that of everything that has happened in any server of this process, and smaller than that of
/// everything that will.
pub fn moment() -> u64 {
    MOMENT.fetch_add(1, Ordering::SeqCst)
}

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub struct Event {
    /// When: see [`moment`].
    pub moment: u64,
    /// The key of the object.
    pub key: String,
    /// What happened.
    pub what: What,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was written with other content than before, or deleted from outside, or the bucket was exchanged.
    Changed,
    /// A response described the whole object, which has this content. Not recorded while the bucket is exchanged.
    Shown(Sha256),
    /// A request deleted the object, which had this content.
    Deleted(Sha256),
}
