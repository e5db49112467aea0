//! The HTTP contract, spoken by a real client over real sockets.

mod access;
mod account_commands;
mod accounts;
mod admin;
mod admin_users;
mod audit;
mod cookies;
mod downloads;
mod encoded_paths;
mod files;
mod headers;
mod health;
mod held_bodies;
mod keys_outage;
mod limits;
mod lockout;
mod oidc;
mod oidc_accounts;
mod older_sessions;
mod personal_tokens;
mod rebalance;
mod sessions;
mod sign_in_crowd;
mod signing_keys;
mod stores;
mod uploads;
