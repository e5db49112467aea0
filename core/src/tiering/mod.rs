//! The engine that brings objects where they should be: plan, claim, copy, verify, switch, free. Joins `db` and
//! `store`, which know nothing of each other. When it does which of these is the worker's business.

pub mod archive;
pub mod claim;
pub mod copy;
pub mod copy_outcome;
mod copy_parts;
mod copy_whole;
mod engine;
pub mod evict;
mod evidence;
pub mod fetch;
pub mod forecast;
mod label;
pub mod lease;
pub mod money;
pub mod pass;
pub mod patience;
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
mod scope;
pub mod scrub;
pub mod settle;
pub mod storage_class;
pub mod stores;
pub mod watermark;
pub mod window;

pub use engine::Engine;
