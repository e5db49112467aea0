//! The documents of `--json`: stable names in `snake_case`, exact bytes, times in RFC 3339. They follow the wire types of
//! the HTTP API where both show the same thing. Adding a field is fine; renaming one breaks people's scripts.

mod account;
mod catalog;
mod failure;
mod plan;
mod rebalance;
mod replica;
mod run;
mod store;

pub(crate) use account::UserDocument;
pub(crate) use catalog::{RebuiltDocument, SnapshotDocument, SnapshotStateDocument};
pub(crate) use failure::{ErrorDocument, ProblemDocument};
pub(crate) use plan::{PlanDocument, PlanItemDocument};
pub(crate) use rebalance::{RebalanceDocument, RebalancePlanDocument};
pub(crate) use replica::{ReplicaCountDocument, ReplicaDocument};
pub(crate) use run::{BacklogDocument, FailureDocument, RunDocument, WorkerDocument};
pub(crate) use store::{DrainDocument, StoreDocument};
