//! Reading and writing the bytes of objects, for all other modules. Every way in calls [`write`], every way out calls [`read`]; both choose
//! stores by their health, and nothing counts as stored before [`verify`] has proved it. Joins `db` and `store`, which
//! know nothing of each other. Knows no files: names, versions and quotas are the business of [`crate::file`].

pub mod crypto;
pub mod health;
pub mod pace;
pub mod read;
pub mod restore;
pub mod store_choice;
pub mod verify;
pub mod write;
