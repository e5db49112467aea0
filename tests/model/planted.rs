//! Bugs that are planted to see that the model finds them. None of them is in the engine: the test's own hands make a
//! check of the engine pointless in the same way in which leaving it out would. Measured with the seeds from 1 on:
//!
//! | bug | planted by | caught after | by |
//! | --- | --- | --- | --- |
//! | an eviction without a second look | a row of another verified copy, there for as long as the look takes | 26 sequences | I2 |
//! | a commit without a lease | taking the lease for the token that is about to commit | 23 sequences | I5 |
//! | a verification that believes everything | a store that keeps other bytes and swears that they are right | 30 sequences | I3 |

use crate::runner::{Plan, Servers};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The last look before a local copy is deleted always finds another verified one.
    EvictionWithoutSecondLook,
    /// A worker whose lease somebody else has commits all the same.
    CommitWithoutLease,
    /// Whatever a store says that it holds is believed.
    VerificationBelievesEverything,
}

fn is_caught(bug: Bug, by: &[&str]) {
    let found = Plan::planted(bug, Servers::InMemory).finds();
    println!("{bug:?} was caught after {} sequences: {}", found.after, found.how);
    assert!(by.iter().any(|invariant| found.how.contains(invariant)), "{bug:?} was caught by {}", found.how);
}

#[test]
fn a_planted_eviction_without_a_second_look_is_caught() {
    is_caught(Bug::EvictionWithoutSecondLook, &["I2:"]);
}

#[test]
fn a_planted_commit_without_a_lease_is_caught() {
    is_caught(Bug::CommitWithoutLease, &["I3:", "I5:", "I6:"]);
}

#[test]
fn a_planted_verification_that_believes_everything_is_caught() {
    is_caught(Bug::VerificationBelievesEverything, &["I1:", "I3:"]);
}
