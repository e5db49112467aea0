//! When and how the worker ferries files to the cloud.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::problem::Problems;
use super::server::ServerConfig;
use super::spec::{Kind, Spec, duration_from_words};
use super::uploads::check_part_count;
use super::{Bandwidth, MEBIBYTE, Window, rules, words};

/// The `[tiering]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TieringConfig {
    /// When runs begin: cron with six fields, seconds first.
    pub schedule: String,
    /// The time zone of the schedule.
    #[serde(deserialize_with = "words::parsed")]
    pub time_zone: chrono_tz::Tz,
    /// Whether a tick that was missed while no worker was up is caught up at start.
    pub catch_up: bool,
    /// Hours in which transfers may start, in the time zone of the schedule.
    #[serde(deserialize_with = "words::parsed")]
    pub window: Window,
    /// Whether runs that a person asked for keep to the window too.
    pub window_applies_to_manual: bool,
    /// Bytes a second of each worker, in the time zone of the schedule.
    #[serde(deserialize_with = "words::parsed")]
    pub bandwidth: Bandwidth,
    /// Which copies of a run are made first.
    pub order: TransferOrder,
    /// Name of the store where uploads land. Never empty once loaded.
    pub local_store: String,
    /// Name of the store to which the worker copies. Never empty once loaded.
    pub cloud_store: String,
    /// Replicas that a worker claims at once.
    pub batch_size: u32,
    /// Files in flight in each worker.
    pub concurrency: usize,
    /// Parts in flight of each file.
    pub part_concurrency: usize,
    /// Streams in flight in each worker, over all its files and their parts.
    pub streams: usize,
    /// Size from which a file goes in parts, in MiB.
    pub multipart_threshold_mb: u64,
    /// Size of a part, in MiB.
    pub part_size_mb: u64,
    /// Life of a claim that is not renewed.
    #[serde(deserialize_with = "words::duration")]
    pub lease: Duration,
    /// How often a claim is renewed and a worker shows that it lives.
    #[serde(deserialize_with = "words::duration")]
    pub heartbeat: Duration,
    /// Attempts for each file before it counts as failed.
    pub max_attempts: u32,
    /// Upper bound of the first pause between attempts.
    #[serde(deserialize_with = "words::duration")]
    pub backoff_initial: Duration,
    /// Upper bound of every pause between attempts.
    #[serde(deserialize_with = "words::duration")]
    pub backoff_cap: Duration,
    /// How a copy is proved.
    pub verify: VerifyMode,
    /// What becomes of the local copy once the cloud copy is verified.
    pub free_local_after: FreeLocalAfter,
    /// No local copy is freed sooner than this after its cloud copy was verified.
    #[serde(deserialize_with = "words::duration")]
    pub free_grace: Duration,
    /// Whether a download that the cloud served brings a local copy back.
    pub cache_on_read: bool,
    /// For how many days an archived copy that was asked for can be read.
    pub archive_restore_days: u32,
    /// How fast archived copies are restored.
    pub archive_restore_tier: ArchiveTier,
    /// How often a store is asked whether it has restored a copy.
    #[serde(deserialize_with = "words::duration")]
    pub archive_poll: Duration,
    /// Bytes that the local store may hold; none: no limit.
    #[serde(deserialize_with = "words::bytes")]
    pub local_capacity: Option<u64>,
    /// Per cent of the capacity above which local copies are freed.
    pub high_watermark: u64,
    /// Per cent of the capacity at which that ends.
    pub low_watermark: u64,
    /// How long transfers in flight may take to finish after SIGTERM.
    #[serde(deserialize_with = "words::duration")]
    pub drain_grace: Duration,
    /// Local stores in which a file has a copy while it is kept near.
    pub local_replicas: usize,
    /// Stores of the cloud to which a file is copied where no rule names them.
    pub cloud_replicas: usize,
}

/// Which copies of a run are made first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferOrder {
    /// Those that were queued first.
    Oldest,
    /// The smallest files.
    Smallest,
    /// The largest files.
    Largest,
}

/// How fast an archived copy is restored, and for how much money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveTier {
    /// Hours.
    Standard,
    /// Half a day or longer, and the cheapest.
    Bulk,
    /// Minutes, and not for every class.
    Expedited,
}

impl ArchiveTier {
    /// S3's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "Standard",
            Self::Bulk => "Bulk",
            Self::Expedited => "Expedited",
        }
    }
}

/// How a copy is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyMode {
    /// By checksums that the destination computed and gave back.
    Checksum,
    /// By downloading the copy and hashing it as well.
    ReadBack,
}

/// What becomes of the local copy once the cloud copy is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeLocalAfter {
    /// It is kept.
    Never,
    /// It is freed this long after the cloud copy was verified.
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
        if text == "never" { Ok(Self::Never) } else { duration_from_words(text).map(Self::After) }
    }
}

impl<'de> Deserialize<'de> for FreeLocalAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        words::parsed(deserializer)
    }
}

impl TieringConfig {
    /// Size from which a file goes in parts, in bytes.
    pub fn multipart_threshold_bytes(&self) -> u64 {
        self.multipart_threshold_mb.saturating_mul(MEBIBYTE)
    }

    /// Size of a part, in bytes.
    pub fn part_size_bytes(&self) -> u64 {
        self.part_size_mb.saturating_mul(MEBIBYTE)
    }

    /// Bytes in a store of this capacity above which copies are freed, and at which that ends.
    pub fn watermarks(&self, capacity: u64) -> Option<(u64, u64)> {
        let share = |per_cent: u64| u64::try_from(u128::from(capacity) * u128::from(per_cent) / 100);
        Some((share(self.high_watermark).ok()?, share(self.low_watermark).ok()?))
    }

    pub(super) fn check(&self, server: &ServerConfig, problems: &mut Problems) {
        check_part_count("tiering.part_size_mb", self.part_size_mb, server, problems);
        if self.multipart_threshold_mb < self.part_size_mb {
            problems.add_between(
                &["tiering.multipart_threshold_mb", "tiering.part_size_mb"],
                format!(
                    "= {} is less than tiering.part_size_mb = {}",
                    self.multipart_threshold_mb, self.part_size_mb
                ),
                "make the threshold at least as large as a part",
            );
        }
        if self.lease < self.heartbeat.saturating_mul(3) {
            problems.add_between(
                &["tiering.lease", "tiering.heartbeat"],
                "is less than three times tiering.heartbeat, so one slow renewal would lose it",
                "lengthen tiering.lease or shorten tiering.heartbeat",
            );
        }
        if self.backoff_initial > self.backoff_cap {
            problems.add_between(
                &["tiering.backoff_initial", "tiering.backoff_cap"],
                "is longer than tiering.backoff_cap",
                "make the cap at least as long as the first pause",
            );
        }
        if self.low_watermark > self.high_watermark {
            problems.add_between(
                &["tiering.low_watermark", "tiering.high_watermark"],
                format!(
                    "= {} is more than tiering.high_watermark = {}",
                    self.low_watermark, self.high_watermark
                ),
                "make the low mark at most as high as the high one",
            );
        }
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "tiering.schedule",
        Kind::Text { what: "a cron pattern with six fields such as \"0 0 0 * * *\"", rule: rules::schedule },
        "When runs begin: cron with six fields, seconds first. The default is every midnight.",
    ),
    Spec::new(
        "tiering.time_zone",
        Kind::Text { what: "an IANA time zone such as \"Europe/Berlin\"", rule: rules::time_zone },
        "The IANA time zone of the schedule, the window and the bandwidth, such as \"Europe/Berlin\". Daylight saving is observed.",
    ),
    Spec::new(
        "tiering.catch_up",
        Kind::Switch,
        "Whether a tick that was missed while no worker was up is caught up, once, when one starts.",
    ),
    Spec::new(
        "tiering.window",
        Kind::Text {
            what: "hours such as \"22:00-06:00\" or \"Mon-Fri 22:00-06:00, Sat-Sun\"",
            rule: rules::window,
        },
        "Hours in which transfers may start, in tiering.time_zone: spans separated by commas, each with days before it or \
         for every day; one over midnight belongs to the day on which it begins. When the window closes, what is in flight \
         finishes and the rest of the run waits until it opens again.",
    )
    .optional("at any time"),
    Spec::new(
        "tiering.window_applies_to_manual",
        Kind::Switch,
        "Whether runs that a person asked for keep to the window too.",
    ),
    Spec::new(
        "tiering.bandwidth",
        Kind::Text {
            what: "a rate such as \"10MiB/s\", or rates by hours such as \"Mon-Fri 08:00-18:00 2MiB/s, 18:00-08:00 unlimited\"",
            rule: rules::bandwidth,
        },
        "What each worker may move, over all its transfers: one rate (KiB/s, MiB/s, GiB/s, MB/s, Mbit/s; at least 64KiB/s), \
         or entries of hours and a rate, separated by commas, in tiering.time_zone. The first entry whose hours it is \
         counts; an entry without hours holds for the rest, which is unlimited without one. A change takes effect within a \
         second, also in the middle of a file.",
    )
    .optional("unlimited"),
    Spec::new(
        "tiering.order",
        Kind::OneOf(&["oldest", "smallest", "largest"]),
        "Which files of a run are copied first. What failed before comes after all others, whatever the order.",
    ),
    Spec::new(
        "tiering.local_store",
        Kind::Text { what: "the name of a store", rule: rules::store_name },
        "Name of the store where uploads land while it is well; needed when several have the role \"local\". The others take \
         its place, in the order of their names, while it is down or being emptied.",
    )
    .optional("the only store whose role is \"local\""),
    Spec::new(
        "tiering.cloud_store",
        Kind::Text { what: "the name of a store", rule: rules::store_name },
        "Name of the store to which the worker copies; needed when several have the role \"cloud\".",
    )
    .optional("the only store whose role is \"cloud\""),
    Spec::new(
        "tiering.batch_size",
        Kind::count(1, 1000),
        "Files that a worker claims at once; of small files it claims as many as keep it busy. Small batches share a run \
         better among several workers.",
    ),
    Spec::new("tiering.concurrency", Kind::count(1, 1024), "Files in flight in each worker."),
    Spec::new(
        "tiering.part_concurrency",
        Kind::count(1, 64),
        "Parts in flight of each file that goes in parts.",
    ),
    Spec::new(
        "tiering.streams",
        Kind::count(1, 1024),
        "Streams in flight in each worker, over all its files and their parts; files up to 256 KiB need none. They are \
         what bounds its memory, with 1 to 2 MiB each.",
    ),
    Spec::new(
        "tiering.multipart_threshold_mb",
        Kind::mebibytes(8, 5 * 1024, 8),
        "Size from which a file goes in parts, which move in parallel and of which only those in flight are sent again \
         after a crash.",
    ),
    Spec::new(
        "tiering.part_size_mb",
        Kind::mebibytes(8, 5 * 1024, 8),
        "Size of a part. A multiple of 8, because checksums are kept for every 8 MiB.",
    ),
    Spec::new(
        "tiering.lease",
        Kind::Duration { min: Duration::from_millis(500), max: Duration::from_secs(3600) },
        "Life of a claim that is not renewed: how long the files of a worker that died wait for another one. At least \
         three times the heartbeat.",
    ),
    Spec::new(
        "tiering.heartbeat",
        Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(600) },
        "How often a worker renews its claims and shows that it lives.",
    ),
    Spec::new(
        "tiering.max_attempts",
        Kind::count(1, 100),
        "Attempts for each file before it counts as failed, until `nightferry sync retry`.",
    ),
    Spec::new(
        "tiering.backoff_initial",
        Kind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(3600) },
        "The first pause between attempts; it doubles with every attempt. A random part of it is waited, so that \
         workers do not come back all at once.",
    ),
    Spec::new(
        "tiering.backoff_cap",
        Kind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(86_400) },
        "The longest pause between attempts.",
    ),
    Spec::new(
        "tiering.verify",
        Kind::OneOf(&["checksum", "read-back"]),
        "How a copy is proved: by checksums that the destination computed and gave back, or by downloading and hashing \
         it as well, which costs the cloud store's egress.",
    ),
    Spec::new(
        "tiering.free_local_after",
        Kind::DurationOrNever,
        "What becomes of the local copy once the cloud copy is verified: \"never\" keeps it, \"0s\" frees it at once, \
         \"30d\" after 30 days. A copy that was brought back counts anew from then, or from its last download.",
    ),
    Spec::new(
        "tiering.free_grace",
        Kind::seconds(0, 30 * 86_400),
        "No local copy is freed sooner than this after its cloud copy was verified, whatever else says so: what is just \
         being opened still finds it. A download that is under way goes on in any case.",
    ),
    Spec::new(
        "tiering.cache_on_read",
        Kind::Switch,
        "Whether a download that the cloud store served brings a copy back to the local store, which is then freed by the \
         same rules as before.",
    ),
    Spec::new(
        "tiering.archive_restore_days",
        Kind::count(1, 365),
        "For how many days a copy in an archive class (GLACIER, DEEP_ARCHIVE) can be read after somebody asked for it.",
    ),
    Spec::new(
        "tiering.archive_restore_tier",
        Kind::OneOf(&["standard", "bulk", "expedited"]),
        "How fast such a copy is restored, and for how much money: see your provider's prices.",
    ),
    Spec::new(
        "tiering.archive_poll",
        Kind::seconds(1, 86_400),
        "How often a store is asked whether it has restored a copy.",
    ),
    Spec::new(
        "tiering.local_capacity",
        Kind::Text { what: "a size such as \"500GiB\"", rule: rules::size },
        "How much each local store may hold, unless stores.NAME.capacity says otherwise, such as \"500GiB\" or \"2TB\". Above the high mark, local copies that are \
         verified in the cloud and not pinned are freed, those that were not used for longest first, until the low mark.",
    )
    .optional("no limit"),
    Spec::new(
        "tiering.high_watermark",
        Kind::Integer { min: 1, max: 100, step: 1, unit: "per cent" },
        "Share of a local store's capacity above which local copies are freed.",
    ),
    Spec::new(
        "tiering.low_watermark",
        Kind::Integer { min: 0, max: 100, step: 1, unit: "per cent" },
        "Share of a local store's capacity at which freeing stops.",
    ),
    Spec::new(
        "tiering.drain_grace",
        Kind::seconds(0, 3600),
        "How long transfers in flight may take to finish after SIGTERM; what is left is given back for the next worker.",
    ),
    Spec::new(
        "tiering.local_replicas",
        Kind::count(1, 8),
        "In how many local stores a file has a copy while it is kept near. Uploads land in one of them, and a worker makes \
         the other copies at once.",
    ),
    Spec::new(
        "tiering.cloud_replicas",
        Kind::count(1, 8),
        "To how many cloud stores a file is copied where no rule of the policy names its stores: to tiering.cloud_store, \
         then to the others in the order of their names.",
    ),
];
