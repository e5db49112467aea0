//! What scrubbing finds, one by one and summed up. Bounded: a summary counts, it does not list.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ids::ObjectId;
use crate::tiering::pass;

/// What is wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The store does not have it.
    Missing,
    /// Its bytes are not those that were uploaded.
    Corrupt,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Missing, Self::Corrupt];

    /// The text that stands for it everywhere outside of the code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A copy that two readings agree is bad. It is `lost` now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: Kind,
    /// In which store.
    pub store: String,
    /// Under which key.
    pub key: String,
    /// Of which object.
    pub object_id: ObjectId,
    /// Bytes of the object as it should be.
    pub bytes: u64,
    /// In words.
    pub detail: String,
    /// Verified copies that are left to repair it from.
    pub copies_left: u64,
}

/// What happens in a pass, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// So far.
    Progress(&'a Summary),
    /// A copy that is bad.
    Found(&'a Finding),
}

/// Findings of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub found: u64,
    /// Of how many bytes.
    pub bytes: u64,
}

/// Why a pass ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Everything that was due was read.
    Everything,
    /// The bytes or the time were used up; the next pass goes on.
    Limit,
    /// It was stopped.
    #[default]
    Interrupted,
}

/// A pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Why it ended.
    pub ended: Ended,
    /// Copies that are right, and proved anew.
    pub right: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Copies that could not be read; the next pass begins with them.
    pub unread: u64,
    /// Stores that failed and were left alone from then on.
    pub unreachable: Vec<String>,
    /// Objects that had no verified copy left and were found again.
    pub returned: u64,
    /// What was found, by kind.
    pub findings: BTreeMap<Kind, Tally>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            ended: Ended::default(),
            right: 0,
            bytes: 0,
            unread: 0,
            unreachable: Vec::new(),
            returned: 0,
            // A kind of which there is none is told too.
            findings: Kind::ALL.into_iter().map(|kind| (kind, Tally::default())).collect(),
        }
    }
}

impl Summary {
    pub(super) fn count(&mut self, finding: &Finding) {
        let tally = self.findings.entry(finding.kind).or_default();
        tally.found += 1;
        tally.bytes = tally.bytes.saturating_add(finding.bytes);
    }

    /// Findings of one kind.
    pub fn of(&self, kind: Kind) -> Tally {
        self.findings.get(&kind).copied().unwrap_or_default()
    }

    /// Findings of every kind.
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }
}

impl pass::Report for Summary {
    fn is_complete(&self) -> bool {
        self.ended != Ended::Interrupted
    }
}
