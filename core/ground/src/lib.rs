//! The lowest layer of Nightferry's domain: code that every crate above may use and that depends on none of them.
//! Contains no database, store or configuration code.

pub mod checksum;
pub mod clock;
pub mod encryption;
pub mod error_code;
pub mod object_key;
pub mod retry;
pub mod step;
pub mod store_role;
pub mod units;
