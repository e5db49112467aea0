//! The HTTP contract, spoken by a real client over real sockets.

mod access;
mod accounts;
mod admin;
mod admin_users;
mod audit;
mod downloads;
mod files;
mod headers;
mod health;
mod limits;
mod lockout;
mod uploads;
