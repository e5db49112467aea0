//! How a process finds out which stores are healthy, and how soon it believes it.

use std::time::Duration;

use super::declare::settings;

settings! {
    /// The `[health]` section.
    pub struct HealthConfig {
        /// How often each process probes every store; five times as often while it is suspect. Uploads, downloads and
        /// copies that fail count as failed probes too.
        pub interval: Duration = "5s", lasts("100ms", "1h");
        /// After this many failures in a row a store is unhealthy: uploads go to another local store, and downloads
        /// ask it last.
        pub failures: u32 = 3, range(1, 100);
        /// After this many successes in a row an unhealthy store is healthy again.
        pub successes: u32 = 3, range(1, 100);
    }
}
