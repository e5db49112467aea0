//! The findings of scrub, individually and as totals. Bounded: a summary counts, it does not list.

use std::collections::BTreeMap;

use serde::Serialize;
use strum::VariantArray as _;

use crate::ids::ObjectId;
use crate::tiering::pass;

/// What is wrong with a copy.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// Missing in the store.
    Missing,
    /// Its content differs from the upload.
    Corrupt,
}

/// A copy that is bad in two readings. It is `lost` now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong with the copy.
    pub kind: Kind,
    /// Store.
    pub store: String,
    /// The object key.
    pub key: String,
    /// Object.
    pub object_id: ObjectId,
    /// The expected size of the object.
    pub bytes: u64,
    /// As text.
    pub detail: String,
    /// The number of verified copies left to repair it from.
    pub copies_left: u64,
}

/// Progress events of a pass.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The report so far.
    Progress(&'a Summary),
    /// A bad copy.
    Found(&'a Finding),
}

/// The number of findings of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Total number found.
    pub found: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a pass ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Everything that was due has been read.
    Everything,
    /// The limit of bytes or time was reached; the next pass continues.
    Limit,
    /// The pass was stopped.
    #[default]
    Interrupted,
}

/// A pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Why it ended.
    pub ended: Ended,
    /// Copies that are correct.
    pub right: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Copies that could not be read; the next pass starts with them.
    pub unread: u64,
    /// Stores that failed and were skipped from then on.
    pub unreachable: Vec<String>,
    /// Objects without a verified copy that were recovered.
    pub returned: u64,
    /// The findings by kind.
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
            // Kinds without findings are included too.
            findings: Kind::VARIANTS.iter().map(|kind| (*kind, Tally::default())).collect(),
        }
    }
}

impl Summary {
    pub(super) fn count(&mut self, finding: &Finding) {
        let tally = self.findings.entry(finding.kind).or_default();
        tally.found += 1;
        tally.bytes = tally.bytes.saturating_add(finding.bytes);
    }

    /// The number of findings of one kind.
    pub fn of(&self, kind: Kind) -> Tally {
        self.findings.get(&kind).copied().unwrap_or_default()
    }

    /// The number of all findings.
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }
}

impl pass::Report for Summary {
    fn is_complete(&self) -> bool {
        self.ended != Ended::Interrupted
    }
}
