//! The tiering engine: plan, claim, copy, verify, commit, evict. Combines `db` and `store`, which are independent of
//! each other. The worker decides when to run which step.

pub mod archive;
pub mod claim;
pub mod commit;
pub mod copy;
pub mod copy_outcome;
mod copy_parts;
mod copy_whole;
pub mod db_outage;
mod engine;
pub mod evict;
mod evidence;
pub mod fetch;
pub mod forecast;
mod label;
pub mod lease;
pub mod money;
pub mod pass;
pub mod placement;
pub mod plan;
pub mod policy;
pub mod reap;
pub mod reconcile;
pub mod relocate;
pub mod repair;
pub mod replication;
pub mod run;
pub mod schedule;
pub mod scrub;
pub mod storage_class;
pub mod stores;
pub mod watermark;
pub mod window;

pub use engine::Engine;
