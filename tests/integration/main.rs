//! All tests that involve several crates, in one binary.
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

mod database;
mod faults;
mod http;
mod store_contract;
mod tiering;
