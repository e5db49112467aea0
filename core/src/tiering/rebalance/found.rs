//! What one pass of evening out the local stores has found: what is to be done with each replica that is on its way, and
//! what is waited for, in words.

use std::collections::BTreeSet;

use crate::db::enums::ReplicaState;
use crate::db::replicas::{BrokenOff, Moving};
use crate::ids::ObjectId;

/// What a pass has found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) moved: usize,
    pub(super) begun: usize,
    /// Not wanted any more, and taken back.
    pub(super) let_stay: usize,
    pub(super) on_their_way: usize,
    pub(super) failed: usize,
    /// Marked, and not deleted.
    pub(super) not_deleted: usize,
    /// Stores of which nothing good is known at this moment.
    pub(super) unwell: BTreeSet<String>,
    pub(super) last_error: Option<String>,
}

/// What is to be done with what is on its way from one store to another.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Proved there, and whole here.
    pub(super) sound: Vec<ObjectId>,
    /// Proved there, and lost here or not there yet again.
    pub(super) doubtful: Vec<ObjectId>,
    /// Not wanted there any more, and nothing was begun there.
    pub(super) staying: Vec<ObjectId>,
    /// Begun there and never proved, and not wanted any more.
    pub(super) unproved: Vec<ObjectId>,
    /// The same, in the middle of an upload.
    pub(super) broken_off: Vec<BrokenOff>,
    /// Given up a while ago.
    pub(super) due: Vec<ObjectId>,
}

impl Found {
    /// What is to be done with each; counts what is waited for.
    pub(super) fn sort(&mut self, replicas: Vec<Moving>, active: bool) -> Sorted {
        let mut sorted = Sorted::default();
        for replica in replicas {
            let id = replica.object_id;
            let Some(there) = replica.there else {
                // Somebody took it away there: it is not sent again and again.
                sorted.staying.push(id);
                continue;
            };
            if there != ReplicaState::Present && replica.last_error.is_some() {
                self.last_error.clone_from(&replica.last_error);
            }
            // What cannot be read here any more is no source for another try.
            let is_wanted =
                active && (replica.state == ReplicaState::Present || there != ReplicaState::Failed);
            match there {
                ReplicaState::Present if replica.state == ReplicaState::Present => sorted.sound.push(id),
                ReplicaState::Present => sorted.doubtful.push(id),
                ReplicaState::Failed if !is_wanted && replica.was_there => sorted.staying.push(id),
                ReplicaState::Failed | ReplicaState::Queued if !is_wanted && !replica.was_there => {
                    match replica.upload_id {
                        None => sorted.unproved.push(id),
                        Some(upload_id) => {
                            sorted.broken_off.push(BrokenOff { object_id: id, key: replica.key, upload_id });
                        }
                    }
                }
                ReplicaState::Failed if replica.is_due => sorted.due.push(id),
                ReplicaState::Failed => self.failed += 1,
                ReplicaState::Queued
                | ReplicaState::Copying
                | ReplicaState::Lost
                | ReplicaState::Evicting => {
                    self.on_their_way += 1;
                }
            }
        }
        sorted
    }

    /// What is waited for, in words.
    pub(super) fn reason(&self) -> Option<String> {
        let mut reasons: Vec<String> =
            self.unwell.iter().map(|store| format!("{store} is down, or in doubt")).collect();
        let counts = [
            (self.on_their_way + self.begun, "to be copied"),
            (self.failed, "given up, tried again in a while"),
            (self.not_deleted, "to be deleted where they were"),
        ];
        reasons.extend(
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        if reasons.is_empty() {
            return None;
        }
        let error = self.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        Some(format!("{}{error}", reasons.join(", ")))
    }
}
