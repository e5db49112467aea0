//! What users do with files, one module per act. Joins `db` and `store`, which know nothing of each other.

pub mod access;
pub mod change;
pub mod details;
pub mod download;
pub mod list;
pub mod name;
pub mod trash;
pub mod upload;
