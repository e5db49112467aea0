//! File operations of users, one module for each. [`crate::object`] transfers the bytes.

pub mod access;
pub mod change;
pub mod details;
pub mod download;
pub mod list;
pub mod name;
pub mod trash;
pub mod upload;

use crate::context::Context;
use crate::object::write::UploadMemory;

/// State that uploads and downloads of a process share. Clones share it.
#[derive(Clone)]
pub struct Files {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// Memory shared by all uploads.
    pub upload_memory: UploadMemory,
    /// Uploads that wait to be recorded.
    pub records: upload::Records,
    /// Access times of files that are not yet written to the database.
    pub accesses: access::AccessLog,
}

impl Files {
    /// Initial state: no upload is in progress and no access is recorded.
    pub fn new(context: Context) -> Self {
        let upload_memory = UploadMemory::new(&context.config);
        Self {
            context,
            upload_memory,
            records: upload::Records::default(),
            accesses: access::AccessLog::default(),
        }
    }
}
