//! Background jobs, one file each.

mod archive;
mod catalog;
mod expired_rows;
mod housekeeping;
mod reconcile;
mod relocate;
mod scrub;

pub(crate) use archive::archive;
pub(crate) use catalog::catalog;
pub(crate) use expired_rows::expired_rows;
pub(crate) use housekeeping::housekeeping;
pub(crate) use reconcile::reconcile;
pub(crate) use relocate::{Pace, relocate};
pub(crate) use scrub::scrub;
