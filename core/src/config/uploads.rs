//! What uploads may take of memory, time and patience.

use std::time::Duration;

use serde::Deserialize;

use super::problem::Problems;
use super::server::ServerConfig;
use super::spec::{Kind, Spec};
use super::{MEBIBYTE, S3_MAX_PARTS, words};

/// The `[uploads]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadsConfig {
    /// Memory shared by all uploads whose parts must be buffered, in MiB.
    pub buffer_pool_mb: u64,
    /// Size of the parts in which a large upload goes to the local store, in MiB.
    pub part_size_mb: u64,
    /// Life of an upload session.
    #[serde(deserialize_with = "words::duration")]
    pub session_ttl: Duration,
    /// Age after which an upload that gave no sign of life is removed with its parts.
    #[serde(deserialize_with = "words::duration")]
    pub reap_after: Duration,
}

impl UploadsConfig {
    /// Memory shared by all uploads whose parts must be buffered, in bytes.
    pub fn buffer_pool_bytes(&self) -> u64 {
        self.buffer_pool_mb.saturating_mul(MEBIBYTE)
    }

    pub(super) fn check(&self, server: &ServerConfig, problems: &mut Problems) {
        check_part_count("uploads.part_size_mb", self.part_size_mb, server, problems);
        if self.reap_after <= server.client_idle_timeout {
            problems.add_between(
                &["uploads.reap_after", "server.client_idle_timeout"],
                "is not longer than server.client_idle_timeout, so uploads that are only slow would be removed",
                "lengthen uploads.reap_after",
            );
        }
    }
}

/// A multipart upload has at most 10,000 parts (S3 `CreateMultipartUpload`), so the largest file bounds the part size.
pub(super) fn check_part_count(key: &str, part_size_mb: u64, server: &ServerConfig, problems: &mut Problems) {
    let largest = part_size_mb.saturating_mul(S3_MAX_PARTS);
    if server.max_file_size_mb > largest {
        let needed = server.max_file_size_mb.div_ceil(S3_MAX_PARTS).next_multiple_of(8);
        problems.add_between(
            &[key, "server.max_file_size_mb"],
            format!(
                "= {part_size_mb} is too small for server.max_file_size_mb = {}: S3 takes at most {S3_MAX_PARTS} parts",
                server.max_file_size_mb
            ),
            format!("set {key} to at least {needed}, or server.max_file_size_mb to at most {largest}"),
        );
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "uploads.buffer_pool_mb",
        Kind::mebibytes(8, 1024 * 1024, 1),
        "Memory that all uploads share to hold parts before they are sent. It never grows. Uploads of known length are \
         held while there is room to spare, so that they can be sent again, and else passed through as they come. Those \
         whose length the client did not say take turns: an owner has at most half of it, and one that sends less than \
         64 KiB a second while others wait is refused.",
    ),
    Spec::new(
        "uploads.part_size_mb",
        Kind::mebibytes(8, 5 * 1024, 8),
        "Size of the parts in which a large upload goes to the local store.",
    ),
    Spec::new(
        "uploads.session_ttl",
        Kind::seconds(60, 30 * 86_400),
        "Life of an upload session. One that is not completed by then is removed with its parts.",
    ),
    Spec::new(
        "uploads.reap_after",
        Kind::seconds(10, 30 * 86_400),
        "Age after which an upload that gave no sign of life (its client or its server died) is removed with its \
         parts. Longer than server.client_idle_timeout.",
    ),
];
