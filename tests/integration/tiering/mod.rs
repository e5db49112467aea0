//! The crossing: copy, verify, switch, free, and what happens when something dies.

mod changes;
mod crashes;
mod credentials;
mod crossing;
mod database_faults;
mod destination_faults;
mod drain;
mod freeing;
mod freeing_access;
mod freeing_fetch;
mod freeing_pins;
mod freeing_watermark;
mod leases;
mod many_workers;
mod order;
mod outages;
mod pace;
mod reading;
mod reaping;
mod reconcile;
mod repair;
mod runs;
mod scrub;
mod source_faults;
mod upload_crashes;
mod window;
