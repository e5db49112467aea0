//! The model test of the tiering engine: random sequences of uploads, deletions, runs, evictions, repairs, faults and
//! crashes, each step checked against a plain model of the expected state.
//!
//! **What runs.** The code of the engine (`nightferry-core`) on a real Postgres, driven one operation at a time by
//! [`operation`] in the way of the worker. An operation can be interrupted at any named step of the engine
//! ([`nightferry_core::step`]): it is dropped there, as by kill -9, or suspended there while the sequence continues,
//! and resumed later, like a worker that hung and whose lease has been taken over. Time passes by moving the clock and
//! the times in the database, never by waiting. Stores fail through the fault proxy; objects are destroyed, damaged and
//! restored from outside. The clock of the process jumps by hours. Two events change the world as a whole:
//!
//! - A bucket is exchanged for another, empty one during some operations, and the processes notice it ([`exchange`]).
//!   What they write there is lost; what they delete elsewhere because of it violates I7.
//! - The database is restored from a backup that was made earlier in the sequence ([`rewind`]). What the restored rows
//!   name and the stores no longer have was lost because of that. Uploads after the backup need no longer be readable,
//!   because the database does not know them, but their objects must never be deleted.
//!
//! Occasionally a whole worker runs, with its loops, its heartbeat and its housekeeping, and is stopped as by SIGTERM.
//! In a third of the sequences copies are multipart (one part each, because a part has at least 8 MiB): created, sent,
//! recorded, completed and verified, with a step between each two of these.
//!
//! **What is checked** after every step, and more strictly at the end of a sequence ([`check`]):
//!
//! - I1 every acknowledged version is intact in some store, or was destroyed there from outside; in the end a download
//!   returns it, or the database reports it as lost
//! - I2 whenever a copy is about to be evicted, another verified one exists and the file is not pinned
//! - I3 a `present` row has its object, unless that was destroyed from outside and has not been checked since; a reconcile
//!   is such a check even if it only reports
//! - I4 no object, and no multipart upload, is in a store without a row; remains of a hung worker are deleted by the
//!   next reconcile, and young unknown objects are not touched
//! - I5 the counters of a run equal the changes recorded by a trigger in the database
//! - I6 nothing is `copying` or `evicting` beyond its lease, and in the end nothing at all
//! - I7 no copy is deleted unless another one was seen whole after its last change ([`evidence`]); objects that are newer
//!   than a restored database are never deleted
//!
//! After a restored backup, I1 is stricter in the end: an object that is intact in any store must count as present.
//!
//! In addition: the primary location of a file matches its replicas, the owner's usage equals that of the versions, and
//! the database never rejects a statement.
//!
//! One kind of loss is permitted: a copy may be evicted whose other copy is destroyed from outside, or found to be
//! missing, between the last check and the deletion.
//!
//! **Which stores.** A hundred sequences run against the real servers, in half a minute: two thousand would take ten.
//! Those run against [`nightferry_tests::harness::memory_s3`], a small correct S3 server in this process behind the
//! same HTTP and the same proxy, which can also have faults of a store itself, such as storing other content than it
//! received.
//!
//! **Reproducing failures.** Sequence `n` has the seed `NIGHTFERRY_MODEL_SEED + n`. A failure prints the shortest
//! sequence that still fails, its seed, and the command that repeats it. `make soak` runs any number, from a random
//! seed.
//!
//! **Checking the model.** [`planted`] disables checks of the engine from within the test. `make planted` breaks the
//! engine itself: it copies the checkout, applies each patch in `tests/planted/` to the copy, compiles it, runs two
//! thousand sequences from seed 1 on, and requires that they break an invariant that the patch names; without any patch
//! they must break none. For bugs of what no sequence does, such as a rebuild, a patch names an integration test that
//! must fail. A patch that no longer applies is a failure, and must be rewritten for the changed code (`git
//! diff -U1`, with a line `Expected:` above). The last output is in `docs/faults.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test that cannot continue must panic"
)]
// Without debug assertions the engine has no named steps at which to interrupt it.
#![cfg(debug_assertions)]

mod check;
mod evidence;
mod exchange;
mod op;
mod operation;
mod oracle;
mod planted;
mod rewind;
mod runner;
mod script;
mod sequence;
mod stage;
mod tampering;
mod truth;
mod watch;

use runner::{Plan, Servers};

const SEQUENCES: u32 = 2000;
const ON_REAL_SERVERS: u32 = 100;

#[test]
fn the_engine_keeps_its_invariants_in_random_sequences() {
    Plan::from_environment(SEQUENCES, Servers::InMemory).holds();
}

#[test]
fn the_engine_keeps_its_invariants_on_real_servers() {
    Plan::from_environment(ON_REAL_SERVERS, Servers::Real).holds();
}
