//! Reads and writes the bytes of objects for all other modules. All writes go through [`write`], all reads through
//! [`read`]; both select stores by their health. Content counts as stored only after [`verify`] has verified it. Joins
//! `db` and `store`, which are independent of each other. Files, versions and quotas belong to [`crate::file`].

pub mod adopt;
pub mod canary;
pub mod crypto;
pub mod delete;
pub mod empty_catalogue;
pub mod health;
pub mod identity;
pub mod pace;
pub mod read;
pub mod restore;
pub mod store_choice;
pub mod verify;
pub mod write;
