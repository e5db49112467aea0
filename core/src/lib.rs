//! The domain of Nightferry: configuration, accounts, files, stores, tiering and database access. Knows no HTTP
//! server, no terminal and no cron; api, worker and cli are built on it and never on each other.

pub mod audit;
pub mod auth;
pub mod checksum;
pub mod clock;
pub mod config;
pub mod context;
pub mod db;
pub mod encryption;
pub mod error;
pub mod file;
pub mod health;
pub mod ids;
pub mod retry;
pub mod step;
pub mod store;
pub mod stores;
pub mod telemetry;
pub mod tiering;
pub mod timetable;
pub mod units;
pub mod vault;
