//! The library half of the `nightferry` binary: what its commands are made of.
//! It prints only through the output layer, and it knows no HTTP route and no SQL.

pub mod up;
