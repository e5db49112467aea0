//! The operations of a sequence. Each refers to other items by a number modulo their count, so that every sequence is
//! valid and remains so when operations are removed.

use nightferry_core::step::Step;
/// A sequence, and the settings it runs under.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) ops: Vec<Op>,
}

/// What may be configured.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub(crate) struct Settings {
    /// Local copies are freed once they have crossed; else only above the watermark.
    pub(crate) frees: bool,
    /// An hour of grace before that.
    pub(crate) grace: bool,
    pub(crate) read_back: bool,
    pub(crate) smallest_first: bool,
    pub(crate) cache_on_read: bool,
    /// Copies go in parts, however small: in one part each, as a part has 8 MiB at least.
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
    /// An act from its beginning to its end.
    Do(Act),
    /// An act that does not come back from a step.
    Break(Act, Step, How),
    /// An act that was held at a step goes on.
    Resume(u8),
    Time(Span),
    Fault(Place, Trouble),
    Down(Place),
    /// No trouble with this store any more.
    Heal(Place),
    /// Something happens to an object behind everybody's back.
    Destroy(Place, u8, Damage),
    /// Somebody puts back what was destroyed.
    GiveBack(Place, u8),
    /// An object that nobody knows appears. It has lain there for long.
    Stray(Place),
    /// One that was written just now: somebody may be about to make it known.
    Newborn(Place),
    /// An object that is known appears where it should not be.
    Surplus(Place, u8),
}

/// What somebody wants of the engine.
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
    /// A whole worker with all its loops, until the run that is asked for has ended.
    Worker,
    Fetch(u8),
    WorkFetches,
    Reap,
    Repair,
    Free,
    Watermark,
    Reconcile(Place, bool),
    Scrub,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Its process is gone.
    Crash,
    /// It hangs.
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Longer than every pause between tries, shorter than a lease.
    Short,
    /// Longer than a lease.
    Lease,
    /// Longer than everything else.
    Days,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    Vanish,
    Flip,
    Truncate,
}

/// What a store does to its next requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    InternalError(Verb),
    SlowDown(Verb),
    ExpiredToken(Verb),
    ResetRequest(Verb),
    ResetResponse,
    FlipRequest,
    FlipResponse,
    /// Acknowledges, and keeps nothing.
    Swallow,
    /// Acknowledges, and keeps other bytes. Until it is healed.
    WrongBytes,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Any,
    Put,
    Get,
    Head,
    Delete,
}
