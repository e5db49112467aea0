//! When and how the worker copies files to the cloud.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::declare::settings;
use super::problem::Problems;
use super::server::ServerConfig;
use super::uploads::check_part_count;
use super::{Bandwidth, MEBIBYTE, Window, validators};
use nightferry_ground::units::{ByteCount, parse_duration};

settings! {
    /// The `[tiering]` section.
    pub struct TieringConfig {
        /// Schedule of the runs: cron with six fields, seconds first. The default is midnight every day.
        pub schedule: String = "0 0 0 * * *",
            text("a cron expression with six fields such as \"0 0 0 * * *\"", validators::schedule);
        /// The IANA time zone of the schedule, the window and the bandwidth, such as "Europe/Berlin". Daylight saving
        /// is observed.
        pub time_zone: chrono_tz::Tz = "UTC";
        /// Whether a scheduled run that was missed while no worker was running is started, once, when a worker starts.
        pub catch_up: bool = true;
        /// Hours in which transfers may start, in `tiering.time_zone`: spans separated by commas, each optionally
        /// preceded by days. A span over midnight belongs to the day on which it starts. When the window closes,
        /// transfers in flight finish, and the rest of the run waits until the window opens again.
        pub window: Window, unset("at any time");
        /// Whether the window also applies to manually started runs.
        pub window_applies_to_manual: bool = false;
        /// Bandwidth limit of each worker for all its transfers together: a rate (KiB/s, MiB/s, GiB/s, MB/s, Mbit/s; at
        /// least 64KiB/s), or entries of hours and a rate, separated by commas, in `tiering.time_zone`. The first entry
        /// whose hours include the current time applies; an entry without hours applies at all other times, for which
        /// the default is unlimited. Changes of the rate take effect within a second, also within a file.
        pub bandwidth: Bandwidth, unset("unlimited");
        /// The order of the copies in a run. Copies that failed before come after all others, in any order.
        pub order: TransferOrder = "oldest";
        /// Name of the store to which uploads are written while it is healthy; required if several stores have the role
        /// "local". While it is unhealthy or being drained, the others replace it, in the order of their names.
        pub local_store: String,
            text("the name of a store", validators::store_name), unset("the only store whose role is \"local\"");
        /// Name of the main cloud store, the destination of copies; required if several stores have the role "cloud".
        pub cloud_store: String,
            text("the name of a store", validators::store_name), unset("the only store whose role is \"cloud\"");
        /// Number of files that a worker claims at once; for small files, it claims as many as keep it busy. Smaller
        /// batches distribute a run more evenly over several workers.
        pub batch_size: u32 = 10, range(1, 1000);
        /// Number of files in flight in each worker.
        pub concurrency: usize = 64, range(1, 1024);
        /// Number of parts in flight for each multipart copy.
        pub part_concurrency: usize = 2, range(1, 64);
        /// Number of streams in flight in each worker, over all its files and parts; files up to 256 KiB need no
        /// stream. Streams determine the memory of the worker: each needs 1 to 2 MiB.
        pub streams: usize = 16, range(1, 1024);
        /// Size from which files are copied in parts. Parts are transferred in parallel, and after a crash only the
        /// parts in flight are sent again.
        pub multipart_threshold_mib: u64 = 64, mebibytes(8, 5 * 1024, 8), formerly("multipart_threshold_mb");
        /// Size of a part. A multiple of 8, because checksums are stored for every 8 MiB.
        pub part_size_mib: u64 = 32, mebibytes(8, 5 * 1024, 8), formerly("part_size_mb");
        /// Lifetime of a lease that is not renewed: after a worker dies, other workers can claim its files after this
        /// time. At least three times the heartbeat.
        pub lease: Duration = "60s", lasts("500ms", "1h");
        /// How often a worker renews its leases and reports that it is running.
        pub heartbeat: Duration = "5s", lasts("100ms", "10m");
        /// Number of attempts for each file in a run before it fails. Failures of a whole store are not counted. Later
        /// runs take failed files up again: see `tiering.retry_failed_after`.
        pub max_attempts: u32 = 5, range(1, 100);
        /// Time after which a run takes up a failed file again, without `nightferry sync retry`.
        pub retry_failed_after: Duration = "1d", lasts("1s", "365d");
        /// The same for a file that has been failing for at least this time, so that a lasting failure is retried less
        /// often: with the defaults, daily for a week, and then weekly. At least `tiering.retry_failed_after`.
        pub retry_failed_cap: Duration = "7d", lasts("1s", "3650d");
        /// The first pause between attempts; it doubles with every attempt. The actual pause is a random part of it, so
        /// that workers do not retry simultaneously.
        pub backoff_initial: Duration = "1s", lasts("10ms", "1h");
        /// The maximum pause between attempts.
        pub backoff_cap: Duration = "5m", lasts("10ms", "1d");
        /// How a copy is verified: by checksums that the destination computed and returned, or also by downloading and
        /// hashing the copy, which incurs the egress costs of the cloud store.
        pub verify: VerifyMode = "checksum";
        /// When the local copy is evicted once the cloud copy is verified: "never" keeps it, "0s" evicts it at once,
        /// "30d" after 30 days. For a copy that was fetched back, the time starts at the fetch or at its last download.
        pub free_local_after: FreeLocalAfter = "never";
        /// Minimum time between the verification of the cloud copy and the eviction of the local copy, regardless of
        /// other settings, so that a download that is about to start still finds the local copy. A download in progress
        /// is not affected.
        pub evict_grace: Duration = "10s", lasts("0s", "30d"), formerly("free_grace");
        /// Maximum age of the last verification of the other copy when a copy is deleted (eviction, drain, rebalancing,
        /// `reconcile --apply`). If it is older, the checksum that the store returns now must match; from a store that
        /// returns no comparable checksum, the other copy is read and hashed first, at the rate of `scrub.rate_mib` and
        /// within `tiering.bandwidth`, which incurs its egress costs. "never": the ETag of the verified copy suffices.
        pub evidence_max_age: Option<Duration> = "30d", or_never();
        /// Whether a download served by the cloud store fetches a copy back to the local store, which is then evicted
        /// by the same rules as before.
        pub cache_on_read: bool = false;
        /// Number of days for which a restored copy of an archive class (GLACIER, `DEEP_ARCHIVE`) can be read.
        pub archive_restore_days: u32 = 7, range(1, 365);
        /// Retrieval tier of such a restore, which determines its speed and price: see the price list of your provider.
        pub archive_restore_tier: ArchiveTier = "Standard";
        /// Polling interval of restores.
        pub archive_poll: Duration = "5m", lasts("1s", "1d");
        /// Capacity of each local store for which `stores.NAME.capacity` is not set, such as "500GiB" or "2TB". Above
        /// the high watermark, local copies that are verified in the cloud and not pinned are evicted, least recently
        /// used first, until the usage is at the low watermark.
        pub local_capacity: Option<ByteCount>, unset("no limit");
        /// Percentage of the capacity of a local store above which local copies are evicted.
        pub high_watermark: u64 = 90, percent(1, 100);
        /// Percentage of the capacity of a local store at which eviction stops.
        pub low_watermark: u64 = 80, percent(0, 100);
        /// How long transfers in flight may take to finish after SIGTERM; the remaining files are released for other
        /// workers.
        pub shutdown_grace: Duration = "30s", lasts("0s", "1h"), formerly("drain_grace");
        /// Number of local stores that hold a copy of each file that is kept locally. Uploads are written to one of
        /// them, and a worker makes the other copies at once.
        pub local_replicas: usize = 1, range(1, 8);
        /// Number of cloud stores to which a file is copied if no policy rule names its stores: `tiering.cloud_store`,
        /// then the others in the order of their names.
        pub cloud_replicas: usize = 1, range(1, 8);
    }
}

/// The order of the copies in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum TransferOrder {
    /// In the order of queueing.
    Oldest,
    /// Smallest files first.
    Smallest,
    /// Largest files first.
    Largest,
}

/// How fast an archived copy is restored, and at what price. The names are those of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
pub enum ArchiveTier {
    /// Hours.
    Standard,
    /// Half a day or longer; the cheapest.
    Bulk,
    /// Minutes; not available for every class.
    Expedited,
}

/// How a copy is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum VerifyMode {
    /// By checksums that the destination computed and returned.
    Checksum,
    /// By also downloading and hashing the copy.
    ReadBack,
}

/// When the local copy is evicted after the cloud copy has been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeLocalAfter {
    /// The copy is kept.
    Never,
    /// The copy is evicted this long after the cloud copy was verified.
    After(Duration),
}

impl fmt::Display for FreeLocalAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::After(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

impl FromStr for FreeLocalAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" { Ok(Self::Never) } else { parse_duration(text).map(Self::After) }
    }
}

impl TieringConfig {
    /// Size above which a file is copied with a multipart upload, in bytes.
    pub fn multipart_threshold_bytes(&self) -> u64 {
        self.multipart_threshold_mib.saturating_mul(MEBIBYTE)
    }

    /// Size of a part, in bytes.
    pub fn part_size_bytes(&self) -> u64 {
        self.part_size_mib.saturating_mul(MEBIBYTE)
    }

    /// The usage in bytes above which copies are evicted from a store of this capacity, and the usage at which eviction
    /// stops.
    pub fn watermarks(&self, capacity: u64) -> Option<(u64, u64)> {
        let share = |percent: u64| u64::try_from(u128::from(capacity) * u128::from(percent) / 100);
        Some((share(self.high_watermark).ok()?, share(self.low_watermark).ok()?))
    }

    pub(super) fn check(&self, server: &ServerConfig, problems: &mut Problems) {
        check_part_count("tiering.part_size_mib", self.part_size_mib, server, problems);
        if self.multipart_threshold_mib < self.part_size_mib {
            problems.add_between(
                &["tiering.multipart_threshold_mib", "tiering.part_size_mib"],
                format!(
                    "= {} is less than tiering.part_size_mib = {}",
                    self.multipart_threshold_mib, self.part_size_mib
                ),
                "make the threshold at least as large as a part",
            );
        }
        if self.lease < self.heartbeat.saturating_mul(3) {
            problems.add_between(
                &["tiering.lease", "tiering.heartbeat"],
                "is less than three times tiering.heartbeat, so that one slow renewal would lose the lease",
                "increase tiering.lease or decrease tiering.heartbeat",
            );
        }
        if self.backoff_initial > self.backoff_cap {
            problems.add_between(
                &["tiering.backoff_initial", "tiering.backoff_cap"],
                "is longer than tiering.backoff_cap",
                "make the cap at least as long as the first backoff",
            );
        }
        if self.retry_failed_after > self.retry_failed_cap {
            problems.add_between(
                &["tiering.retry_failed_after", "tiering.retry_failed_cap"],
                "is longer than tiering.retry_failed_cap",
                "make the cap at least as long as the first time",
            );
        }
        if self.low_watermark > self.high_watermark {
            problems.add_between(
                &["tiering.low_watermark", "tiering.high_watermark"],
                format!(
                    "= {} is more than tiering.high_watermark = {}",
                    self.low_watermark, self.high_watermark
                ),
                "make the low watermark at most as high as the high one",
            );
        }
    }
}
