//! The test harness of Nightferry: real servers, shared by a whole test run, and the faults between them and Nightferry.
//! Product code never depends on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::missing_panics_doc,
    reason = "a harness fails by panicking, which fails the test that uses it"
)]

pub mod harness;
