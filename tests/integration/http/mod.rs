//! The HTTP contract, spoken by a real client over real sockets.

mod accounts;
mod admin;
mod downloads;
mod files;
mod health;
mod stores;
mod uploads;
