//! The findings of reconcile, individually and as totals. Bounded: a summary counts, it does not list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strum::VariantArray as _;

use crate::ids::ObjectId;
use crate::tiering::pass;

/// The kind of difference.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// An object of ours in the store without a row, which was deleted, or belongs elsewhere.
    Orphan,
    /// An object of ours that the database does not know, and that may be newer than the database. Never deleted:
    /// `nightferry catalog adopt` brings it back.
    Unknown,
    /// An intact copy of a known object that the database did not expect in its store. It counts as a verified copy from
    /// now on.
    Adopted,
    /// A row without an object.
    Missing,
    /// The object has another size than the upload.
    WrongSize,
    /// A multipart upload without a copy or an upload, older than any session.
    StaleUpload,
}

/// The action for a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "OutcomeShape")]
pub enum Outcome {
    /// None: only a report was requested. A copy that is missing or has a wrong size is suspect now.
    Reported,
    /// Deleted, aborted, adopted or marked as lost.
    Applied,
    /// None, for this reason.
    Kept(String),
}

impl Outcome {
    /// Why no action was taken although the finding requires one.
    pub fn kept_because(&self) -> Option<&str> {
        match self {
            Self::Kept(why) => Some(why),
            Self::Reported | Self::Applied => None,
        }
    }
}

/// The serialized form of an outcome.
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
    /// Kind.
    pub kind: Kind,
    /// Store.
    pub store: String,
    /// The object key.
    pub key: String,
    /// Object, if known.
    pub object_id: Option<ObjectId>,
    /// The expected size of the object, or the size of the orphan.
    pub bytes: u64,
    /// As text.
    pub detail: String,
    /// The action.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Progress events of a pass.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The report so far.
    Progress(&'a Summary),
    /// A confirmed difference.
    Found(&'a Finding),
}

/// The number of findings of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Total number found.
    pub found: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The number of fixed findings.
    pub applied: u64,
}

/// A pass over one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Store.
    pub store: String,
    /// Whether fixes were requested.
    pub apply: bool,
    /// Whether the pass completed.
    pub complete: bool,
    /// Objects listed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects with foreign keys: counted, never touched.
    pub foreign: u64,
    /// Unfinished multipart uploads listed.
    pub uploads: u64,
    /// Objects that could not be checked, because the store failed for them alone.
    pub unchecked: u64,
    /// The error of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The findings by kind.
    pub findings: BTreeMap<Kind, Tally>,
}

impl Summary {
    pub(super) fn new(store: &str, apply: bool) -> Self {
        // Kinds without findings are included too.
        let findings = Kind::VARIANTS.iter().map(|kind| (*kind, Tally::default())).collect();
        Self { store: store.to_owned(), apply, findings, ..Self::default() }
    }

    pub(super) fn count(&mut self, finding: &Finding) {
        let tally = self.findings.entry(finding.kind).or_default();
        tally.found += 1;
        tally.bytes = tally.bytes.saturating_add(finding.bytes);
        tally.applied += u64::from(finding.outcome == Outcome::Applied);
    }

    /// The number of findings of one kind.
    pub fn of(&self, kind: Kind) -> Tally {
        self.findings.get(&kind).copied().unwrap_or_default()
    }

    /// The number of all findings.
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
