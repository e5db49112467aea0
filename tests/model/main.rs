//! The proof of the tiering engine: random sequences of uploads, deletions, runs, evictions, repairs, faults and crashes,
//! each step of each checked against a plain model of what must be true.
//!
//! **What runs.** The engine's own code (`nightferry-core`) on a real Postgres, driven one act at a time by [`deed`] the way
//! the worker drives it. An act may be cut off at any named step of the engine ([`nightferry_core::step`]): it is dropped
//! there, as by kill -9, or held there while the sequence goes on, and let go later, as a worker that hung and whose lease
//! somebody else has by then. Time passes by moving the clock and the times in the database, never by waiting. Stores fail
//! by the fault proxy; objects are destroyed, damaged and given back behind the engine's back.
//!
//! Now and then a whole worker runs, with its loops, its heartbeat and its housekeeping, and is stopped as SIGTERM stops it. In a
//! third of the sequences copies go in parts (one each: a part has 8 MiB at least), begun, sent, noted, put together and proved
//! with a step between any two of these.
//!
//! **What is checked** after every step, and more strictly once everything was given the time to settle ([`check`]):
//!
//! - I1 every acknowledged version is whole in some store, or was destroyed there from outside; in the end it is read back
//!   by a download, or the database says that it is lost
//! - I2 whenever a copy is about to be freed, another verified one exists and the file is not pinned
//! - I3 a `present` row has its object, unless that was destroyed from outside and nobody has looked yet
//! - I4 no object, and no upload in parts, lies in a store without a row; what a hung worker left goes with the next reconciling,
//!   and what is young and unknown is let be
//! - I5 a run's counters equal what a trigger in the database saw happen
//! - I6 nothing is `copying` or `evicting` beyond its lease, and in the end nothing at all
//!
//! Besides: a file's home is where its replicas say, the owner's used bytes are those of the versions, and the database never
//! refuses a statement.
//!
//! One loss is nobody's fault and is allowed: a copy may be freed in good faith whose other copy was destroyed from outside and
//! had not been looked at since, or was found to be gone after the last look before the deletion.
//!
//! **Which stores.** A hundred sequences go to the real servers, in half a minute: two thousand would take ten there. Those go to
//! [`nightferry_tests::harness::memory_s3`], a small honest S3 in this process behind the same HTTP and the same proxy, which
//! also can have faults that only a store has, such as keeping other bytes than it was given.
//!
//! **Repeating.** Sequence `n` has the seed `NIGHTFERRY_MODEL_SEED + n`. A failure prints the shortest sequence that still
//! fails, its seed, and the command that repeats it. `make soak` runs as many as it is told, from a random seed.
//!
//! **Does it find anything?** [`planted`] makes checks of the engine pointless by the test's own hands. `make planted` breaks
//! the engine itself: it copies the checkout, applies each patch of `tests/planted/` to the copy, compiles it, plays two
//! thousand sequences from seed 1 on, and requires that they break an invariant that the patch names; without any patch they
//! must break none. A patch that does not apply any more is a failure: whoever changes that part of the engine writes it anew
//! (`git diff -U1`, with a line `Expected:` above). What it printed last stands in `docs/faults.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test that cannot go on must stop"
)]
// Without debug assertions the engine has no named steps to be cut off at.
#![cfg(debug_assertions)]

mod check;
mod deed;
mod meddling;
mod op;
mod oracle;
mod planted;
mod runner;
mod script;
mod sequence;
mod stage;
mod truth;
mod watch;

use runner::{Plan, Servers};

const SEQUENCES: u32 = 2000;
const ON_REAL_SERVERS: u32 = 100;

#[test]
fn the_engine_keeps_its_promises_whatever_happens() {
    Plan::from_environment(SEQUENCES, Servers::InMemory).holds();
}

#[test]
fn the_engine_keeps_its_promises_on_real_servers() {
    Plan::from_environment(ON_REAL_SERVERS, Servers::Real).holds();
}
