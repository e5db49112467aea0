//! Ids, and the one error type: what the database floor and the domain share.

pub mod error;
pub mod ids;
