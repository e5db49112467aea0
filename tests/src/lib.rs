//! The test harness: real Postgres, real S3 servers, a fault proxy between Nightferry and the stores, and the real
//! application. Every test has a separate database and separate buckets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::missing_panics_doc,
    reason = "a test that cannot continue must panic"
)]

pub mod harness;
