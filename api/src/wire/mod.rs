//! The JSON that goes over the wire, as types: the contract with other programs. Nothing in here decides anything.

pub(crate) mod account;
pub(crate) mod administration;
pub(crate) mod file;
pub(crate) mod health;
pub(crate) mod plan;
pub(crate) mod problem;
pub(crate) mod rebalance;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod store;
pub(crate) mod token;
