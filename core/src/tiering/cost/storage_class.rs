//! Extra charges of AWS storage classes: minimum durations, minimum sizes, overhead (Amazon S3 User Guide,
//! "Understanding and managing Amazon S3 storage classes"). Classes of other providers have none here.

/// Properties of a storage class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Minimum duration in days.
    pub least_days: u32,
    /// Minimum billed size in bytes.
    pub least_size: u64,
    /// Overhead per object in bytes.
    pub overhead: u64,
    /// Whether objects cannot be read without a restore.
    pub is_archive: bool,
}

/// Minimum billed size of the infrequent access classes.
pub const SMALL: u64 = 128 * 1024;

/// The default class.
pub const USUAL: &str = "STANDARD";

/// The index and metadata of an archived object.
const ARCHIVE_OVERHEAD: u64 = 40 * 1024;

/// The properties of a class.
pub fn facts(class: &str) -> Facts {
    let infrequent = |least_days| Facts { least_days, least_size: SMALL, ..Facts::default() };
    let archive =
        |least_days| Facts { least_days, overhead: ARCHIVE_OVERHEAD, is_archive: true, ..Facts::default() };
    match class {
        "STANDARD_IA" | "ONEZONE_IA" => infrequent(30),
        "GLACIER_IR" => infrequent(90),
        "GLACIER" => archive(90),
        "DEEP_ARCHIVE" => archive(180),
        _ => Facts::default(),
    }
}
