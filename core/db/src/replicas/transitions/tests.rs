//! Tests that the table is consistent, matches its page, and is the only writer.

mod page;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::page::page;
use super::table::TRANSITIONS;
use super::{To, is_leased};
use crate::enums::ReplicaState;

const BLESS: &str = "NIGHTFERRY_BLESS=1 cargo test --workspace replica_states_page_is_current";

#[test]
fn replica_states_page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/replica-states.md");
    let wanted = page();
    if std::env::var_os("NIGHTFERRY_BLESS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "docs/replica-states.md is stale; update it with: {BLESS}");
}

#[test]
fn names_are_unique_and_every_state_can_be_entered_and_left() {
    let names: BTreeSet<&str> = TRANSITIONS.iter().map(|transition| transition.name).collect();
    assert_eq!(names.len(), TRANSITIONS.len());
    let edges: Vec<_> = TRANSITIONS.iter().flat_map(|transition| transition.edges()).collect();
    for state in ReplicaState::ALL {
        assert!(
            edges.iter().any(|(from, to)| *to == Some(*state) && *from != *to),
            "{state} is never reached"
        );
        assert!(
            edges.iter().any(|(from, to)| *from == Some(*state) && *from != *to),
            "{state} is never left"
        );
    }
}

#[test]
fn every_statement_checks_its_source_states_and_keeps_leases_and_reasons_consistent() {
    for transition in TRANSITIONS {
        let sql = match transition.to {
            To::Gone => transition.delete("", "true"),
            To::Either(..) => transition.update_if("true", "x = 1", "", "true"),
            To::State(_) | To::Same => transition.update("x = 1", "", "true"),
        };
        for state in ReplicaState::ALL {
            let checked = sql.split(" WHERE ").nth(1).unwrap().contains(&format!("'{state}'"));
            assert_eq!(checked, transition.from.contains(state), "{sql}");
        }
        let leaves_a_lease = transition.from.iter().any(|from| is_leased(*from))
            && transition.targets().iter().any(|to| !is_leased(*to));
        assert_eq!(sql.contains("lease_token = NULL"), leaves_a_lease, "{sql}");
        let ends_an_eviction = transition.from.contains(&ReplicaState::Evicting)
            && transition.targets().iter().any(|to| *to != ReplicaState::Evicting);
        assert_eq!(sql.contains("evict_reason = NULL"), ends_an_eviction, "{sql}");
        let leaves_lost = transition.from.contains(&ReplicaState::Lost)
            && transition.targets().iter().any(|to| *to != ReplicaState::Lost);
        let judges = ["LOSE", "CONDEMN"].contains(&transition.name);
        assert_eq!(sql.contains("suspect_since = NULL"), leaves_lost || judges, "{sql}");
    }
}

/// Rust files below `folder`, except tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_transitions_write_to_replicas() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "../src", "../../api/src", "../../worker/src", "../../cli/src"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100);
    let writes = [
        "UPDATE replicas",
        "INTO replicas",
        "DELETE FROM replicas",
        "update(replicas::",
        "insert_into(replicas::",
        "delete(replicas::",
    ];
    for file in files {
        if file.components().any(|part| part.as_os_str() == "transitions") {
            continue;
        }
        let text: String =
            std::fs::read_to_string(&file).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.replace("( replicas", "(replicas");
        for write in writes {
            assert!(
                !text.contains(write),
                "{}: `{write}` belongs to db/replicas/transitions",
                file.display()
            );
        }
    }
}
