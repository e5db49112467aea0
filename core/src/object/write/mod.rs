//! Writes an object from a stream: sent to a local store part by part with bounded memory, hashed on the way, and
//! verified at the end. [`Receiver`] reads the stream, [`ObjectWriter`] sends it, and [`UploadMemory`] is shared by all
//! uploads.

mod memory;
mod receiver;
mod writer;

pub use memory::UploadMemory;
pub(crate) use receiver::Receiver;
pub use receiver::{BodyError, Incoming};
pub(crate) use writer::ObjectWriter;
