//! The database: migrations that come and go, a schema file that is true, constraints that hold by themselves.

mod audit_cost;
mod claim_cost;
mod constraints;
mod draining_cost;
mod freeing_cost;
mod leases;
mod lists;
mod migrations;
mod plan_cost;
mod policy_cost;
mod rebalancing_cost;
mod schema_file;
mod statements;
