//! The ground floor of Nightferry's domain: what every crate above may use and what knows none of them. No database,
//! no store, no configuration.

pub mod checksum;
pub mod clock;
pub mod encryption;
pub mod error_code;
pub mod object_key;
pub mod retry;
pub mod step;
pub mod units;
