//! The tiering engine: plan, claim, copy, verify, commit, evict. Combines `db` and `store`, which are independent of
//! each other. The worker decides when to run which step.

pub mod copy;
pub mod cost;
pub mod db_outage;
mod engine;
pub mod evict;
pub mod integrity;
pub mod lease;
pub mod placement;
pub mod policy;
pub mod relocate;
pub mod run;
pub mod schedule;
pub mod stores;

pub use copy::{archive, fetch, replication};
pub use cost::{money, storage_class};
pub use engine::Engine;
pub use evict::watermark;
pub use integrity::{pass, reap, reconcile, repair, scrub};
pub use run::{claim, commit, forecast, plan, window};
