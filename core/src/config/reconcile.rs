//! When the stores are compared with the database, and what is done about the differences.

use std::time::Duration;

use super::declare::settings;
use super::validators;

settings! {
    /// The `[reconcile]` section.
    pub struct ReconcileConfig {
        /// When a worker compares each store's listing with the database: cron with six fields, seconds first, in
        /// `tiering.time_zone`.
        pub schedule: Option<String> = "0 30 2 * * SUN",
            text("a cron pattern with six fields such as \"0 30 2 * * SUN\"", validators::schedule),
            unset("only `nightferry reconcile` does");
        /// Objects without a row in the database are called orphans only when they are older than this.
        pub safety_age: Duration = "24h", lasts("1h", "365d");
        /// Whether a scheduled pass deletes orphans, aborts stale uploads, and marks what is missing or of another
        /// size as lost, so that it is repaired. Otherwise it only reports.
        pub apply: bool = false;
    }
}
