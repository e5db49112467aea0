//! The crossing: copy, verify, switch, and what happens when something dies.

mod crossing;
mod leases;
mod reaping;
mod runs;
