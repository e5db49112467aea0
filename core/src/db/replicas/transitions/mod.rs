//! Every change of a replica: the table of states (`TRANSITIONS`), and the only writer of `replicas`. Feature files pick
//! rows and join what they need; the `SET` list and the states from which a change may come are written here alone, so that no
//! statement changes a state that it has not checked. `docs/replica-states.md` is generated from the table.
//!
//! A snapshot of the catalogue that is put back inserts rows as they were: the one way into the table that is no transition.

#[cfg(test)]
mod page;
mod table;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use crate::db::enums::{CopyReason, ReplicaState};
use crate::db::statement::Values;
use crate::ids::{LeaseToken, ObjectId, WorkerId};

pub(in crate::db) use table::*;

/// A named change of rows of `replicas`.
#[derive(Debug)]
pub(in crate::db) struct Transition {
    /// Its name, that of the constant.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the documentation"))]
    name: &'static str,
    /// The states that it changes; none: it makes the row.
    from: &'static [ReplicaState],
    to: To,
    /// What is written besides the state, the lease and the reason of an eviction, which follow from the states.
    set: &'static str,
    /// Who calls it, and when. For the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the documentation"))]
    callers: &'static str,
    /// What must hold besides the state. For the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the documentation"))]
    guard: &'static str,
}

/// What a transition leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// A state.
    State(ReplicaState),
    /// The first of two states where a condition holds, the second where it does not.
    Either(ReplicaState, ReplicaState),
    /// The state as it was.
    Same,
    /// No row.
    Gone,
}

const NO_LEASE: &str = "lease_token = NULL, lease_until = NULL, lease_worker = NULL";

/// Whether rows in this state have a lease.
const fn is_leased(state: ReplicaState) -> bool {
    matches!(state, ReplicaState::Copying | ReplicaState::Evicting)
}

impl Transition {
    /// `UPDATE replicas r SET … FROM … WHERE …` of rows in the states that this starts from. `more` is set too, behind what the
    /// transition sets by itself; `from` is empty or begins with `FROM`.
    pub(in crate::db) fn update(&self, more: &str, from: &str, which: &str) -> String {
        let state = match self.to {
            To::State(state) => format!("state = '{state}'"),
            To::Either(..) | To::Same | To::Gone => String::new(),
        };
        self.update_to(&state, more, from, which)
    }

    /// As [`Self::update`], of a transition to one of two states: the first one where `condition` holds.
    pub(in crate::db) fn update_if(&self, condition: &str, more: &str, from: &str, which: &str) -> String {
        let state = match self.to {
            To::Either(yes, no) => {
                format!("state = CASE WHEN {condition} THEN '{yes}' ELSE '{no}' END::replica_state")
            }
            To::State(_) | To::Same | To::Gone => String::new(),
        };
        self.update_to(&state, more, from, which)
    }

    fn update_to(&self, state: &str, more: &str, from: &str, which: &str) -> String {
        format!(
            "UPDATE replicas r SET {} {from} WHERE {} AND {which}",
            self.sets(state, more),
            self.starts_here()
        )
    }

    /// `DELETE FROM replicas r USING … WHERE …` of rows in the states that this starts from.
    pub(in crate::db) fn delete(&self, using: &str, which: &str) -> String {
        format!("DELETE FROM replicas r {using} WHERE {} AND {which}", self.starts_here())
    }

    /// `INSERT INTO replicas AS r …` of what `select` gives for `columns`, in the state that this leads to. `conflict` is empty or
    /// begins with `ON CONFLICT`.
    pub(in crate::db) fn insert(&self, columns: &str, select: &str, conflict: &str) -> String {
        let state = match self.to {
            To::State(state) => state.as_str(),
            To::Either(..) | To::Same | To::Gone => "",
        };
        format!(
            "INSERT INTO replicas AS r (state, {columns}) SELECT '{state}'::replica_state, q.* FROM ({select}) q {conflict}"
        )
    }

    /// What an `INSERT` does with a row that is there: this, if the row is in a state that this starts from.
    pub(in crate::db) fn on_conflict(&self, more: &str, which: &str) -> String {
        let state = match self.to {
            To::State(state) => format!("state = '{state}'"),
            To::Either(..) | To::Same | To::Gone => String::new(),
        };
        format!(
            "ON CONFLICT (object_id, store) DO UPDATE SET {} WHERE {} AND {which}",
            self.sets(&state, more),
            self.starts_here()
        )
    }

    fn sets(&self, state: &str, more: &str) -> String {
        let (mut lease, mut reason) = ("", "");
        if let To::State(to) | To::Either(to, _) = self.to {
            if self.from.iter().any(|from| is_leased(*from)) && !is_leased(to) {
                lease = NO_LEASE;
            }
            if self.from.contains(&ReplicaState::Evicting) && to != ReplicaState::Evicting {
                reason = "evict_reason = NULL";
            }
        }
        let sets = [state, self.set, lease, reason, more];
        sets.into_iter().filter(|set| !set.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// That the row `r` is in a state that this starts from.
    fn starts_here(&self) -> String {
        let mut states = String::new();
        for state in self.from {
            let comma = if states.is_empty() { "" } else { ", " };
            let _ = write!(states, "{comma}'{state}'");
        }
        match self.from {
            [_] => format!("r.state = {states}"),
            _ => format!("r.state IN ({states})"),
        }
    }
}

/// The right of one worker to work on some replicas, until it runs out.
#[derive(Debug, Clone, Copy)]
pub(in crate::db) struct Lease {
    pub(in crate::db) worker: WorkerId,
    pub(in crate::db) token: LeaseToken,
    pub(in crate::db) length: std::time::Duration,
}

impl Lease {
    /// The lease as part of a `SET` list.
    pub(in crate::db) fn set(&self, values: &mut Values) -> String {
        let (token, worker) = (values.id(self.token), values.id(self.worker));
        format!("lease_token = {token}, lease_worker = {worker}, {}", until(values, self.length))
    }
}

/// That a replica `r` is one of these objects in a store, under this lease.
pub(in crate::db) fn under_lease(
    values: &mut Values,
    objects: &[ObjectId],
    store: &str,
    token: LeaseToken,
) -> String {
    format!(
        "r.object_id = ANY({}) AND r.store = {} AND r.lease_token = {}",
        values.ids(objects),
        values.text(store),
        values.id(token)
    )
}

/// The end of a lease that lasts from now on, as part of a `SET` list.
pub(in crate::db) fn until(values: &mut Values, length: std::time::Duration) -> String {
    format!("lease_until = now() + make_interval(secs => {})", values.seconds(length))
}

/// Copies to queue, each part as an expression over the rows of a `FROM` clause.
#[derive(Debug)]
pub(in crate::db) struct Queue<'s> {
    pub(in crate::db) object: &'s str,
    pub(in crate::db) store: &'s str,
    pub(in crate::db) reason: CopyReason,
    /// The run that makes them; none: they wait for one, or are made outside of runs, as the reason has it.
    pub(in crate::db) run: Option<&'s str>,
    /// The rule that wants them; none: the reason stands for it.
    pub(in crate::db) rule: Option<&'s str>,
    pub(in crate::db) storage_class: Option<&'s str>,
    pub(in crate::db) priority: &'s str,
}

/// What queueing does where the row is there already.
#[derive(Debug, Clone, Copy)]
pub(in crate::db) enum IfThere<'s> {
    /// Nothing.
    Leave,
    /// It begins anew if it is in a state that [`QUEUE_AGAIN`] starts from, and this holds.
    Again(&'s str),
    /// As `Again`, with another rule.
    AgainByRule(&'s str),
    /// As `AgainByRule`, also if it is queued outside of runs.
    First,
    /// The run takes it up as far as it is, if this holds.
    TakeUp(&'s str),
}

impl Queue<'_> {
    /// The statement that queues them, of the rows of `from`, which begins with `FROM`.
    pub(in crate::db) fn insert(&self, from: &str, if_there: IfThere<'_>) -> String {
        let Self { object, store, reason, priority, .. } = self;
        let reason_as_rule = format!("'{reason}'::text");
        let select = format!(
            "SELECT {object}, {store}, '{reason}'::copy_reason, {}::uuid, {}, {}::text, {priority}::smallint {from}",
            self.run.unwrap_or("NULL"),
            self.rule.unwrap_or(&reason_as_rule),
            self.storage_class.unwrap_or("NULL"),
        );
        let conflict = match if_there {
            IfThere::Leave => "ON CONFLICT DO NOTHING".to_owned(),
            IfThere::Again(which) => QUEUE_AGAIN.on_conflict("", which),
            IfThere::AgainByRule(which) => QUEUE_AGAIN.on_conflict("rule = EXCLUDED.rule", which),
            IfThere::First => QUEUE_FIRST.on_conflict("", "(r.state <> 'queued' OR r.run_id IS NULL)"),
            IfThere::TakeUp(which) => TAKE_UP.on_conflict("", which),
        };
        QUEUE.insert(
            "object_id, store, copy_reason, run_id, rule, storage_class, priority",
            &select,
            &conflict,
        )
    }
}
