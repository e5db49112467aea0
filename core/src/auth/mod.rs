//! Who somebody is: passwords, tokens and sessions. Knows no HTTP.

pub mod account;
pub mod administration;
pub mod authenticate;
pub mod guard;
pub mod identities;
pub mod keys;
pub mod network;
pub mod oidc;
pub mod password;
pub mod permission;
pub mod personal_token;
mod random;
mod seal;
pub mod session;
pub mod session_list;
pub mod token;
mod turns;
