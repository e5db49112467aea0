//! What reconciling finds, one by one and summed up. Bounded: a summary counts, it does not list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::ObjectId;
use crate::tiering::pass;

/// How store and map differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An object of ours lies in the store, and no row says that it should.
    Orphan,
    /// A row says that the object is there, and it is not.
    Missing,
    /// The object there has another size than the one that was uploaded.
    WrongSize,
    /// A multipart upload that no copy and no upload knows, older than any session may be.
    StaleUpload,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Orphan, Self::Missing, Self::WrongSize, Self::StaleUpload];

    /// The text that stands for it everywhere outside of the code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Missing => "missing",
            Self::WrongSize => "wrong_size",
            Self::StaleUpload => "stale_upload",
        }
    }
}

/// What was done about a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "OutcomeShape")]
pub enum Outcome {
    /// Nothing: only a report was asked for.
    Reported,
    /// Deleted, aborted or marked as lost.
    Applied,
    /// Nothing, for this reason.
    Kept(String),
}

impl Outcome {
    /// Why nothing was done, where something should have been.
    pub fn kept_because(&self) -> Option<&str> {
        match self {
            Self::Kept(why) => Some(why),
            Self::Reported | Self::Applied => None,
        }
    }
}

/// How programs see an outcome.
#[derive(Serialize)]
struct OutcomeShape {
    applied: bool,
    kept_because: Option<String>,
}

impl From<Outcome> for OutcomeShape {
    fn from(outcome: Outcome) -> Self {
        Self { applied: outcome == Outcome::Applied, kept_because: outcome.kept_because().map(str::to_owned) }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which.
    pub kind: Kind,
    /// In which store.
    pub store: String,
    /// Under which key.
    pub key: String,
    /// Of which object, where one is known.
    pub object_id: Option<ObjectId>,
    /// Bytes of the object as it should be, or of the orphan.
    pub bytes: u64,
    /// In words.
    pub detail: String,
    /// What was done.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What happens in a pass, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// So far.
    Progress(&'a Summary),
    /// A difference that was confirmed.
    Found(&'a Finding),
}

/// Findings of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub found: u64,
    /// Of how many bytes.
    pub bytes: u64,
    /// How many were done something about.
    pub applied: u64,
}

/// A pass over one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Store.
    pub store: String,
    /// Whether more than a report was asked for.
    pub apply: bool,
    /// Whether the pass came to its end.
    pub complete: bool,
    /// Objects listed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects whose keys are not Nightferry's: counted, never touched.
    pub foreign: u64,
    /// Unfinished multipart uploads listed.
    pub uploads: u64,
    /// What was found, by kind.
    pub findings: BTreeMap<Kind, Tally>,
}

impl Summary {
    pub(super) fn new(store: &str, apply: bool) -> Self {
        // A kind of which there is none is told too.
        let findings = Kind::ALL.into_iter().map(|kind| (kind, Tally::default())).collect();
        Self { store: store.to_owned(), apply, findings, ..Self::default() }
    }

    pub(super) fn count(&mut self, finding: &Finding) {
        let tally = self.findings.entry(finding.kind).or_default();
        tally.found += 1;
        tally.bytes = tally.bytes.saturating_add(finding.bytes);
        tally.applied += u64::from(finding.outcome == Outcome::Applied);
    }

    /// Findings of one kind.
    pub fn of(&self, kind: Kind) -> Tally {
        self.findings.get(&kind).copied().unwrap_or_default()
    }

    /// Findings of every kind.
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }

    /// Whether replicas were marked as lost.
    pub(super) fn lost_something(&self) -> bool {
        self.of(Kind::Missing).applied + self.of(Kind::WrongSize).applied > 0
    }
}

impl pass::Report for Summary {
    fn is_complete(&self) -> bool {
        self.complete
    }
}
