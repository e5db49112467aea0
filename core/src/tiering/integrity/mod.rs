//! Checks and cleanup: reconcile and scrub compare the stores with the database, repair replaces lost copies, and the
//! reaper deletes what is no longer referenced.

pub mod pass;
pub mod reap;
pub mod reconcile;
pub mod repair;
pub mod scrub;
