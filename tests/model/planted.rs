//! Planted bugs that the model must find. None of them is in the engine: the test disables a check of the engine, with
//! the same effect as omitting it. Measured with the seeds from 1 on:
//!
//! | bug | planted by | caught after | by |
//! | --- | --- | --- | --- |
//! | a commit without a lease | taking the lease for the token that is about to commit | 23 sequences | I5 |
//! | a verification that believes everything | a store that keeps other bytes and swears that they are right | 30 sequences | I3 |

use crate::runner::{Plan, Servers};

/// Sequences with wrong rows.
const LYING: u32 = 300;

/// A bug, or something similar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Whenever a local copy is about to be deleted, there is a row of another verified copy, in a store that does not
    /// exist. Not a bug of the engine, which relies on what the stores return and not on rows: it must cause no loss.
    RowThatLies,
    /// A worker commits although another worker holds the lease.
    CommitWithoutLease,
    /// The acknowledgement of a store is accepted without verification.
    VerificationBelievesEverything,
}

fn is_caught(bug: Bug, by: &[&str]) {
    let found = Plan::planted(bug, Servers::InMemory).finds();
    println!("{bug:?} was caught after {} sequences: {}", found.after, found.how);
    assert!(by.iter().any(|invariant| found.how.contains(invariant)), "{bug:?} was caught by {}", found.how);
}

#[test]
fn wrong_rows_of_another_copy_cause_no_loss() {
    Plan::planted(Bug::RowThatLies, Servers::InMemory).of(LYING).holds();
}

#[test]
fn a_planted_commit_without_a_lease_is_caught() {
    is_caught(Bug::CommitWithoutLease, &["I3:", "I5:", "I6:"]);
}

#[test]
fn a_planted_verification_that_accepts_everything_is_caught() {
    is_caught(Bug::VerificationBelievesEverything, &["I1:", "I3:", "I7:"]);
}
