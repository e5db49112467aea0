//! Accounts and sessions.

pub(crate) mod jwks;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logout_all;
pub(crate) mod me;
pub(crate) mod oidc;
pub(crate) mod password;
pub(crate) mod refresh;
pub(crate) mod sessions;
pub(crate) mod signup;
pub(crate) mod tokens;
