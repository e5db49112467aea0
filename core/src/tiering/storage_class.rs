//! What AWS charges for its storage classes beside the bytes: minimum times, minimum sizes, overhead (Amazon S3 User
//! Guide, "Understanding and managing Amazon S3 storage classes"). Classes of other providers have none of it here.

/// Facts of a storage class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Days that are charged at least.
    pub least_days: u32,
    /// Bytes that are charged at least.
    pub least_size: u64,
    /// Bytes that are charged on top of each object's own.
    pub overhead: u64,
    /// Whether objects cannot be read without a restore.
    pub is_archive: bool,
}

/// Size below which objects in the infrequent access classes are charged more than they have.
pub const SMALL: u64 = 128 * 1024;

/// The class of objects that were written without one.
pub const USUAL: &str = "STANDARD";

/// The index and metadata of an archived object.
const ARCHIVE_OVERHEAD: u64 = 40 * 1024;

/// What is known of a class.
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
