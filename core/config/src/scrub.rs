//! Schedule, rate and duration of scrub passes.

use std::time::Duration;

use super::declare::settings;
use super::{MEBIBYTE, validators};

settings! {
    /// The `[scrub]` section.
    pub struct ScrubConfig {
        /// When a worker reads verified copies again and checks their hashes: cron with six fields, seconds first, in
        /// `tiering.time_zone`. Reading from a cloud store incurs its egress costs.
        pub schedule: Option<String> = "0 0 3 * * SUN",
            text("a cron expression with six fields such as \"0 0 3 * * SUN\"", validators::schedule),
            unset("only on demand, with `nightferry scrub`");
        /// Maximum read rate per second, over all stores together.
        pub rate_mib: u64 = 20, mebibytes(1, 100_000, 1), formerly("rate_mb");
        /// Time limit of a scheduled pass. The next pass continues with the copies that were not read for the longest
        /// time.
        pub time_limit: Duration = "6h", lasts("1m", "30d");
        /// A scheduled pass skips copies that were verified, by being copied or read, within this time.
        pub min_age: Duration = "30d", lasts("0s", "3650d");
    }
}

impl ScrubConfig {
    /// Bytes read per second.
    pub fn rate_bytes(&self) -> u64 {
        self.rate_mib.saturating_mul(MEBIBYTE)
    }
}
