//! The database: migrations, the schema file, constraints.

mod audit_cost;
mod claim_cost;
mod constraints;
mod counts;
mod draining_cost;
mod eviction_cost;
mod failover;
mod leases;
mod lists;
mod live_migrations;
mod migrations;
mod name_search;
mod plan_cost;
mod policy_cost;
mod rebalancing_cost;
mod run_cost;
mod scale;
mod schema_file;
mod statements;
mod upload_batches;
