//! The domain of Nightferry: configuration, accounts, files, stores, tiering and database access. Contains no HTTP
//! server, no terminal output and no cron; api, worker and cli are built on it and are independent of each other.
//!
//! Every function that uses the database can fail with [`error::Error::DatabaseUnavailable`] or
//! [`error::Error::Database`]. The sections "Errors" say what else can go wrong, and what has happened by then.

pub mod audit;
pub mod auth;
pub mod batcher;
pub mod catalog;
pub mod context;
pub mod file;
pub mod object;
pub mod services;
pub mod stores;
pub mod telemetry;
pub mod tiering;

pub use nightferry_config as config;
pub use nightferry_config::timetable;
pub use nightferry_db as db;
pub use nightferry_ground::{checksum, clock, encryption, error_code, object_key, retry, step, units};
pub use nightferry_store as store;
pub use nightferry_types::{error, ids};
