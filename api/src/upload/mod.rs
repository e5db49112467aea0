//! Reads `multipart/form-data` uploads as a stream: the small fields first, then the file in chunks, with bounds on the
//! remaining size. Buffers at most one chunk of the file.

mod body;
mod form;
mod multipart;

pub(crate) use form::{Fields, read_fields};
