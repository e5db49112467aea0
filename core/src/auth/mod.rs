//! Who somebody is: passwords, tokens and sessions. Knows no HTTP.

pub mod account;
pub mod administration;
pub mod guard;
pub mod network;
pub mod password;
pub mod session;
pub mod token;
