//! The domain of Nightferry. Knows no HTTP server, no terminal and no cron.

pub mod config;
pub mod telemetry;
