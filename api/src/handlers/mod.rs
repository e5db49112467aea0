//! The handlers, one module per noun. All have the same structure: call, load, authorize, validate, act, respond.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod files;
pub(crate) mod service;
