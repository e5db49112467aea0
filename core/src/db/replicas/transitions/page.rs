//! `docs/replica-states.md`, made from the table.

use std::fmt::Write;

use super::table::TRANSITIONS;
use super::{To, Transition};
use crate::db::enums::{CopyReason, EvictReason, ReplicaState};

impl Transition {
    pub(super) fn label(&self) -> String {
        self.name.to_lowercase()
    }

    /// The states that this leads to; none: no row, or the state as it was.
    pub(super) fn leads_to(&self) -> Vec<ReplicaState> {
        match self.to {
            To::State(state) => vec![state],
            To::Either(yes, no) => vec![yes, no],
            To::Same | To::Gone => Vec::new(),
        }
    }

    /// Each way from a state to a state; none: no row. A transition that changes no state has none.
    pub(super) fn ways(&self) -> Vec<(Option<ReplicaState>, Option<ReplicaState>)> {
        let from: Vec<_> = match self.from {
            [] => vec![None],
            states => states.iter().copied().map(Some).collect(),
        };
        let to: Vec<_> = match self.to {
            To::Same => Vec::new(),
            To::Gone => vec![None],
            To::State(_) | To::Either(..) => self.leads_to().into_iter().map(Some).collect(),
        };
        from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).collect()
    }
}

fn state(state: Option<ReplicaState>) -> &'static str {
    state.map_or("[*]", ReplicaState::as_str)
}

/// The picture: one arrow for each pair of states, with the names of all transitions that go that way.
fn diagram() -> String {
    let mut arrows: Vec<((&str, &str), Vec<String>)> = Vec::new();
    for transition in TRANSITIONS {
        for (from, to) in transition.ways() {
            let way = (state(from), state(to));
            match arrows.iter_mut().find(|(known, _)| *known == way) {
                Some((_, names)) => names.push(transition.label()),
                None => arrows.push((way, vec![transition.label()])),
            }
        }
    }
    let mut text = "stateDiagram-v2\n".to_owned();
    for ((from, to), names) in arrows {
        let _ = writeln!(text, "    {from} --> {to}: {}", names.join(", "));
    }
    text
}

fn states(states: &[ReplicaState]) -> String {
    states.iter().map(|state| format!("`{state}`")).collect::<Vec<_>>().join(", ")
}

fn table() -> String {
    let mut text = "| transition | from | to | who | guard |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for transition in TRANSITIONS {
        let from = if transition.from.is_empty() { "no row".to_owned() } else { states(transition.from) };
        let to = match transition.to {
            To::Same => "the same".to_owned(),
            To::Gone => "no row".to_owned(),
            To::State(_) | To::Either(..) => states(&transition.leads_to()),
        };
        let guard = if transition.guard.is_empty() { "-" } else { transition.guard };
        let _ =
            writeln!(text, "| `{}` | {from} | {to} | {} | {guard} |", transition.label(), transition.callers);
    }
    text
}

fn reasons<R: std::fmt::Display>(all: &[R]) -> String {
    all.iter().map(|reason| format!("`{reason}`")).collect::<Vec<_>>().join(", ")
}

/// The whole page.
pub(super) fn page() -> String {
    format!(
        "# States of a replica\n\
         \n\
         A row of `replicas` says that an object should be in a store, and how far that is true. This page is generated from the\n\
         table in `core/src/db/replicas/transitions/table.rs`, the only place that writes to the rows; a test fails when it is\n\
         stale.\n\
         \n\
         ```mermaid\n{}```\n\
         \n\
         A row that is `copying` or `evicting` has a lease: a token, a worker, and an end. A transition into one of these states\n\
         sets it, one out of them clears it. Every transition has the states that it starts from in its `WHERE`.\n\
         \n\
         Why a copy is made stands in `copy_reason`: {}. Why a replica is deleted stands in `evict_reason`, as long as it\n\
         is `evicting`: {}.\n\
         \n\
         {}",
        diagram(),
        reasons(CopyReason::ALL),
        reasons(EvictReason::ALL),
        table()
    )
}
