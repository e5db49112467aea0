//! The handlers, one file per operation. All have the same structure: caller, load, authorize, validate, act, respond.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod docs;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod metrics;
