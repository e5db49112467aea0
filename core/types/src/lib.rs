//! Ids and the error type, shared by the database layer and the domain.

pub mod error;
pub mod ids;
