//! Generates `docs/replica-states.md` from the table.

use std::fmt::Write;

use super::super::table::TRANSITIONS;
use super::super::{To, Transition};
use crate::enums::{CopyReason, EvictReason, ReplicaState};

impl Transition {
    pub(super) fn label(&self) -> String {
        self.name.to_lowercase()
    }

    /// Target states. `None`: no row, or the previous state.
    pub(super) fn targets(&self) -> Vec<ReplicaState> {
        match self.to {
            To::State(state) => vec![state],
            To::Either(yes, no) => vec![yes, no],
            To::Same | To::Gone => Vec::new(),
        }
    }

    /// Every pair of source and target state; `None` stands for no row. A transition that keeps the state has none.
    pub(super) fn edges(&self) -> Vec<(Option<ReplicaState>, Option<ReplicaState>)> {
        let from: Vec<_> = match self.from {
            [] => vec![None],
            states => states.iter().copied().map(Some).collect(),
        };
        let to: Vec<_> = match self.to {
            To::Same => Vec::new(),
            To::Gone => vec![None],
            To::State(_) | To::Either(..) => self.targets().into_iter().map(Some).collect(),
        };
        from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).collect()
    }
}

fn state(state: Option<ReplicaState>) -> &'static str {
    state.map_or("[*]", ReplicaState::as_str)
}

/// The diagram: one arrow for each pair of states, labelled with the names of all its transitions.
fn diagram() -> String {
    let mut arrows: Vec<((&str, &str), Vec<String>)> = Vec::new();
    for transition in TRANSITIONS {
        for (from, to) in transition.edges() {
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
    let mut text =
        "| transition | from | to | used by | condition |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for transition in TRANSITIONS {
        let from = if transition.from.is_empty() { "no row".to_owned() } else { states(transition.from) };
        let to = match transition.to {
            To::Same => "unchanged".to_owned(),
            To::Gone => "no row".to_owned(),
            To::State(_) | To::Either(..) => states(&transition.targets()),
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

/// The complete page.
pub(super) fn page() -> String {
    format!(
        "# States of a replica\n\nA row of `replicas` states that an object should be in a store, and the \
         progress of that. This page is generated from\nthe table in \
         `core/db/src/replicas/transitions/table.rs`, the only code that writes to these rows; a test fails \
         if the\npage is out of date.\n\n```mermaid\n{}```\n\nA row in state `copying` or `evicting` has a \
         lease: a token, a worker and an expiry time. A transition into one of\nthese states sets the \
         lease; a transition out of them clears it. Every transition checks its source states in \
         its\n`WHERE` clause.\n\n`copy_reason` states why a copy is made: {}. `evict_reason` states why \
         a\nreplica is being deleted, while it is `evicting`: {}.\n\nA `lost` replica with `suspect_since` \
         is suspect: a pass that only reports found it missing or wrong. Like every `lost` \
         one,\nit counts as no copy, but runs do not repair it, and downloads try it last. A transition \
         out of `lost` ends the suspicion.\n\n{}",
        diagram(),
        reasons(CopyReason::ALL),
        reasons(EvictReason::ALL),
        table()
    )
}
