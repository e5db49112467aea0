//! Accounts and sessions.

pub(crate) mod account;
pub(crate) mod oidc;
pub(crate) mod session;
pub(crate) mod tokens;
