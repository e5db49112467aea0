//! The HTTP contract, spoken by a real client over real sockets.

mod access;
mod account_commands;
mod accounts;
mod admin;
mod admin_users;
mod audit;
mod commands;
mod cookies;
mod downloads;
mod files;
mod headers;
mod health;
mod hostile_input;
mod limits;
mod lockout;
mod oidc;
mod personal_tokens;
mod sessions;
mod signing_keys;
mod slow_clients;
mod stores;
mod uploads;
