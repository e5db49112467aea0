//! The crossing: copy, verify, switch, and what happens when something dies.

mod changes;
mod crashes;
mod credentials;
mod crossing;
mod destination_faults;
mod leases;
mod outages;
mod reading;
mod reaping;
mod runs;
mod source_faults;
