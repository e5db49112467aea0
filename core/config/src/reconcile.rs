//! Schedule and behaviour of reconcile passes.

use std::time::Duration;

use super::declare::settings;
use super::validators;

settings! {
    /// The `[reconcile]` section.
    pub struct ReconcileConfig {
        /// When a worker compares the listing of each store with the database: cron with six fields, seconds first, in
        /// `tiering.time_zone`.
        pub schedule: Option<String> = "0 30 2 * * SUN",
            text("a cron expression with six fields such as \"0 30 2 * * SUN\"", validators::schedule),
            unset("only on demand, with `nightferry reconcile`");
        /// Minimum age of an object without a row in the database to count as an orphan.
        pub safety_age: Duration = "24h", lasts("1h", "365d");
        /// Whether a scheduled pass deletes orphans, aborts stale uploads, and marks missing objects and those with a
        /// wrong size as lost, so that they are repaired. Otherwise it only reports, and such copies become suspect.
        pub apply: bool = false;
    }
}
