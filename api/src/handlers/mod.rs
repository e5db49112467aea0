//! What each route does, one file per act. All read the same way: who, load, may they, rules, act, answer.

pub(crate) mod admin;
pub(crate) mod auth;
pub(crate) mod docs;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod metrics;
