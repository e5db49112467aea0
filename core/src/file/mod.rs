//! What users do with files, one module per act. The bytes are moved by [`crate::object`].

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

/// What uploads and downloads of one process share. Clones share the same.
#[derive(Clone)]
pub struct Files {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// Memory that all uploads share.
    pub upload_memory: UploadMemory,
    /// When files were read, until it is written to the database.
    pub accesses: access::AccessLog,
}

impl Files {
    /// No upload is under way, and no access is noted.
    pub fn new(context: Context) -> Self {
        let upload_memory = UploadMemory::new(&context.config);
        Self { context, upload_memory, accesses: access::AccessLog::default() }
    }
}
