//! The crossing: copy, verify, switch, and what happens when something dies.

mod credentials;
mod crossing;
mod destination_faults;
mod leases;
mod outages;
mod reaping;
mod runs;
mod source_faults;
