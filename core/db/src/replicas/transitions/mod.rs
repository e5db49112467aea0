//! All changes of a replica: the table of transitions (`TRANSITIONS`) and the only code that writes to `replicas`.
//! Feature modules select rows and join what they need; the `SET` list and the permitted source states are defined only
//! here, so no statement changes a state that it has not checked. `docs/replica-states.md` is generated from the table.
//!
//! Importing a catalogue snapshot inserts rows as they were: the only write that is not a transition.

mod table;
#[cfg(test)]
mod tests;

use crate::enums::{CopyReason, ReplicaState};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::statement::Values;

pub(crate) use table::*;

/// A named change of rows in `replicas`.
#[derive(Debug)]
pub(crate) struct Transition {
    /// Name, equal to that of the constant.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the documentation"))]
    name: &'static str,
    /// Source states; empty if the transition inserts the row.
    from: &'static [ReplicaState],
    to: To,
    /// Assignments besides the state, the lease, the eviction reason and the suspicion, which follow from the states.
    set: &'static str,
    /// Who uses the transition, and when. For the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the documentation"))]
    callers: &'static str,
    /// Conditions besides the state. For the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the documentation"))]
    guard: &'static str,
}

/// Result of a transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// One state.
    State(ReplicaState),
    /// The first of two states if a condition holds, otherwise the second.
    Either(ReplicaState, ReplicaState),
    /// The previous state.
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
    /// `UPDATE replicas r SET … FROM … WHERE …` for rows in the source states. `more` is appended to the assignments of
    /// the transition; `from` is empty or begins with `FROM`.
    pub(crate) fn update(&self, more: &str, from: &str, which: &str) -> String {
        self.update_if("false", more, from, which)
    }

    /// Like [`Self::update`], for a transition to one of two states: the first if `condition` holds.
    pub(crate) fn update_if(&self, condition: &str, more: &str, from: &str, which: &str) -> String {
        format!(
            "UPDATE replicas r SET {} {from} WHERE {} AND {which}",
            self.sets(condition, more),
            self.starts_here()
        )
    }

    /// `DELETE FROM replicas r USING … WHERE …` for rows in the source states.
    pub(crate) fn delete(&self, using: &str, which: &str) -> String {
        format!("DELETE FROM replicas r {using} WHERE {} AND {which}", self.starts_here())
    }

    /// `INSERT INTO replicas AS r …` of the rows that `select` returns for `columns`, in the target state. `conflict`
    /// is empty or begins with `ON CONFLICT`.
    pub(crate) fn insert(&self, columns: &str, select: &str, conflict: &str) -> String {
        let state = match self.to {
            To::State(state) => state.as_str(),
            To::Either(..) | To::Same | To::Gone => "",
        };
        format!(
            "INSERT INTO replicas AS r (state, {columns}) SELECT '{state}'::replica_state, q.* FROM ({select}) q {conflict}"
        )
    }

    /// The `ON CONFLICT` clause of an `INSERT`: applies the assignments if the existing row is in a source state.
    pub(crate) fn on_conflict(&self, more: &str, which: &str) -> String {
        format!(
            "ON CONFLICT (object_id, store) DO UPDATE SET {} WHERE {} AND {which}",
            self.sets("false", more),
            self.starts_here()
        )
    }

    /// The assignments; of two target states, the first if `condition` holds.
    fn sets(&self, condition: &str, more: &str) -> String {
        let state = match self.to {
            To::State(state) => format!("state = '{state}'"),
            To::Either(yes, no) => {
                format!("state = CASE WHEN {condition} THEN '{yes}' ELSE '{no}' END::replica_state")
            }
            To::Same | To::Gone => String::new(),
        };
        let (mut lease, mut reason, mut suspicion) = ("", "", "");
        if let To::State(to) | To::Either(to, _) = self.to {
            if self.from.iter().any(|from| is_leased(*from)) && !is_leased(to) {
                lease = NO_LEASE;
            }
            if self.from.contains(&ReplicaState::Evicting) && to != ReplicaState::Evicting {
                reason = "evict_reason = NULL";
            }
            if self.from.contains(&ReplicaState::Lost) && to != ReplicaState::Lost {
                suspicion = "suspect_since = NULL";
            }
        }
        let sets = [state.as_str(), self.set, lease, reason, suspicion, more];
        sets.into_iter().filter(|set| !set.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// Condition: the row `r` is in a source state.
    fn starts_here(&self) -> String {
        let states: Vec<String> = self.from.iter().map(|state| format!("'{state}'")).collect();
        match states.as_slice() {
            [only] => format!("r.state = {only}"),
            states => format!("r.state IN ({})", states.join(", ")),
        }
    }
}

/// Exclusive right of a worker to process certain replicas until it expires.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerId,
    pub(crate) token: LeaseToken,
    pub(crate) length: std::time::Duration,
}

impl Lease {
    /// The lease as part of a `SET` list.
    pub(crate) fn set(&self, values: &mut Values) -> String {
        let (token, worker) = (values.id(self.token), values.id(self.worker));
        format!("lease_token = {token}, lease_worker = {worker}, {}", until(values, self.length))
    }
}

/// Condition: a replica `r` is one of these objects in a store, under this lease.
pub(crate) fn under_lease(
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

/// End of a lease that starts now, as part of a `SET` list.
pub(crate) fn until(values: &mut Values, length: std::time::Duration) -> String {
    format!("lease_until = now() + make_interval(secs => {})", values.seconds(length))
}

/// Copies to queue; each field is an expression over the rows of a `FROM` clause.
#[derive(Debug)]
pub(crate) struct Queue<'s> {
    pub(crate) object: &'s str,
    pub(crate) store: &'s str,
    pub(crate) reason: CopyReason,
    /// Run that makes the copies. `None`: they wait for a run, or are made outside of runs, depending on the reason.
    pub(crate) run: Option<&'s str>,
    /// Rule that requires the copies. `None`: the reason is stored instead.
    pub(crate) rule: Option<&'s str>,
    pub(crate) storage_class: Option<&'s str>,
    pub(crate) priority: &'s str,
}

/// What to do if the row exists already.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IfThere<'s> {
    /// Nothing.
    Leave,
    /// Start again if the row is in a source state of [`QUEUE_AGAIN`] and this condition holds.
    Again(&'s str),
    /// Like `Again`, with another rule.
    AgainByRule(&'s str),
    /// Like `AgainByRule`, also if the copy is queued outside of runs.
    First,
    /// The run takes over the copy with its progress if this condition holds.
    TakeOver(&'s str),
}

impl<'s> Queue<'s> {
    /// Copies that are made outside of runs, without a rule.
    pub(crate) const fn on_demand(
        object: &'s str,
        store: &'s str,
        reason: CopyReason,
        priority: &'s str,
    ) -> Self {
        Self { object, store, reason, run: None, rule: None, storage_class: None, priority }
    }

    /// The statement that queues the copies, for the rows of `from`, which begins with `FROM`.
    pub(crate) fn insert(&self, from: &str, if_there: IfThere<'_>) -> String {
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
            IfThere::TakeOver(which) => TAKE_OVER.on_conflict("", which),
        };
        QUEUE.insert(
            "object_id, store, copy_reason, run_id, rule, storage_class, priority",
            &select,
            &conflict,
        )
    }
}
