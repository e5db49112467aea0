//! The HTTP contract, spoken by a real client over real sockets.

mod account_commands;
mod accounts;
mod admin;
mod cookies;
mod downloads;
mod files;
mod health;
mod oidc;
mod personal_tokens;
mod sessions;
mod signing_keys;
mod uploads;
