//! The operations of a sequence. Each refers to other items by a number modulo their count, so that every sequence is
//! valid and remains so when operations are removed.

use nightferry_core::step::Step;
/// A sequence, and its settings.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) ops: Vec<Op>,
}

/// The settings of a sequence.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(crate) struct Settings {
    /// Local copies are evicted once they have been synced; otherwise only above the watermark.
    pub(crate) evicts: bool,
    /// With a grace period of one hour.
    pub(crate) grace: bool,
    pub(crate) read_back: bool,
    pub(crate) smallest_first: bool,
    pub(crate) cache_on_read: bool,
    /// All copies are multipart, also small ones: one part each, because a part has at least 8 MiB.
    pub(crate) in_parts: bool,
}

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Local,
    Cloud,
}

impl Place {
    pub(crate) const ALL: [Self; 2] = [Self::Local, Self::Cloud];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Local => "minio",
            Self::Cloud => "s3",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An operation that completes.
    Do(Act),
    /// An operation that is interrupted at a step.
    Break(Act, Step, How),
    /// An operation that was suspended at a step continues.
    Resume(u8),
    Time(Span),
    Fault(Place, Trouble),
    Down(Place),
    /// Ends all faults of this store.
    Heal(Place),
    /// An object is damaged from outside.
    Destroy(Place, u8, Damage),
    /// A destroyed object is put back from outside.
    GiveBack(Place, u8),
    /// An unknown object appears that is old.
    Stray(Place),
    /// An unknown object appears that was just written: its row may be about to be committed.
    Newborn(Place),
    /// A known object appears in a store where it should not be.
    Surplus(Place, u8),
    /// The name of a store points at another, empty bucket during these operations, and the processes notice it.
    Exchanged(Place, Vec<Act>),
    /// The database is backed up.
    BackUp,
    /// The last backup of the database is restored.
    Rewind,
    /// The clock of the process jumps by hours, unlike that of the database.
    Clock(i8),
}

/// A request to the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Act {
    Upload {
        name: u8,
        size: u16,
    },
    Trash(u8),
    Restore(u8),
    Purge(u8),
    Pin(u8, bool),
    Read(u8),
    RequestRun {
        retry: bool,
    },
    CancelRun,
    Work,
    /// A whole worker with all its loops, until the requested run has ended.
    Worker,
    Fetch(u8),
    WorkFetches,
    Reap,
    Repair,
    Evict,
    Watermark,
    Reconcile(Place, bool),
    Scrub,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The process dies.
    Crash,
    /// The operation hangs.
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Longer than every pause between attempts, shorter than a lease.
    Short,
    /// Longer than a lease.
    Lease,
    /// Longer than all other times.
    Days,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    Vanish,
    Flip,
    Truncate,
}

/// A fault of a store in its next requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    InternalError(Verb),
    SlowDown(Verb),
    ExpiredToken(Verb),
    ResetRequest(Verb),
    ResetResponse,
    FlipRequest,
    FlipResponse,
    /// Acknowledges and stores nothing.
    Swallow,
    /// Returns success and an error in the body when several objects are to be deleted.
    HiddenError,
    /// Acknowledges and stores other content, until it is healed.
    WrongBytes,
    /// Verifies no checksum, returns the one that was sent and stores other content, until it is healed. The canaries of
    /// the process come afterwards, before its next operation.
    FalseChecksums,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Any,
    Put,
    Get,
    Head,
    Delete,
}
