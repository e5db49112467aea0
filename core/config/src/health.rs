//! How a process determines which stores are healthy, and how many results a change of state requires.

use std::time::Duration;

use super::declare::settings;

settings! {
    /// The `[health]` section.
    pub struct HealthConfig {
        /// How often each process probes every store; five times as often while the store is not healthy. Failed
        /// uploads, downloads and copies count as failed probes.
        pub interval: Duration = "5s", lasts("100ms", "1h");
        /// Number of consecutive failures after which a store is unhealthy: uploads go to another local store, and
        /// downloads try it last.
        pub failures: u32 = 3, range(1, 100);
        /// Number of consecutive successes after which an unhealthy store is healthy again.
        pub successes: u32 = 3, range(1, 100);
        /// How often each process tests, with a few bytes, whether every store refuses content with a wrong checksum;
        /// at most once a minute. Only then is the checksum in the response to an upload sufficient; otherwise a
        /// further request verifies each upload. "never" tests nothing and always sends that request.
        pub canary_interval: Option<Duration> = "24h", or_never();
    }
}
