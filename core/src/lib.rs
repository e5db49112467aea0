//! The domain of Nightferry. Knows no HTTP server, no terminal and no cron.

pub mod checksum;
pub mod retry;
pub mod store;
