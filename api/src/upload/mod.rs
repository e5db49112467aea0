//! Reading `multipart/form-data` uploads as a stream: the small fields first, then the file, chunk by chunk, with
//! what is known of how much is still to come. Holds no more of the file than one chunk.

mod body;
mod form;
mod multipart;

pub(crate) use form::{Fields, read_fields};
