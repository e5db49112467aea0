//! The crossing: copy, verify, switch, free, and what happens when something dies.

mod changes;
mod crashes;
mod credentials;
mod crossing;
mod database_faults;
mod destination_faults;
mod drain;
mod freeing;
mod leases;
mod outages;
mod reading;
mod reaping;
mod reconcile;
mod repair;
mod runs;
mod scrub;
mod source_faults;
mod upload_crashes;
