//! Memory, part sizes and timeouts of uploads.

use std::time::Duration;

use super::declare::settings;
use super::problem::Problems;
use super::server::ServerConfig;
use super::{MEBIBYTE, S3_MAX_PARTS};

settings! {
    /// The `[uploads]` section.
    pub struct UploadsConfig {
        /// Memory shared by all uploads for parts before they are sent. It never grows. Uploads of known length are
        /// buffered while there is memory, so that parts can be sent again, and are streamed otherwise. Uploads of
        /// unknown length are queued fairly: each owner gets at most half of the memory, and an upload that sends less
        /// than 64 KiB/s while others wait is rejected.
        pub buffer_pool_mib: u64 = 32, mebibytes(8, 1024 * 1024, 1), formerly("buffer_pool_mb");
        /// Part size of large uploads to the local store.
        pub part_size_mib: u64 = 64, mebibytes(8, 5 * 1024, 8), formerly("part_size_mb");
        /// Lifetime of an upload session. A session that is not completed by then is deleted with its parts.
        pub session_ttl: Duration = "24h", lasts("1m", "30d");
        /// Time without activity after which an interrupted upload is deleted with its parts. Must be longer than
        /// `server.client_idle_timeout`.
        pub reap_after: Duration = "1h", lasts("10s", "30d");
    }
}

impl UploadsConfig {
    /// Memory pool for buffering parts, shared by all uploads, in bytes.
    pub fn buffer_pool_bytes(&self) -> u64 {
        self.buffer_pool_mib.saturating_mul(MEBIBYTE)
    }

    pub(super) fn check(&self, server: &ServerConfig, problems: &mut Problems) {
        check_part_count("uploads.part_size_mib", self.part_size_mib, server, problems);
        if self.reap_after <= server.client_idle_timeout {
            problems.add_between(
                &["uploads.reap_after", "server.client_idle_timeout"],
                "is not longer than server.client_idle_timeout, so that slow uploads would be removed",
                "increase uploads.reap_after",
            );
        }
    }
}

/// A multipart upload has at most 10,000 parts (S3 `CreateMultipartUpload`), so the maximum file size determines the
/// minimum part size.
pub(super) fn check_part_count(
    key: &str,
    part_size_mib: u64,
    server: &ServerConfig,
    problems: &mut Problems,
) {
    let largest = part_size_mib.saturating_mul(S3_MAX_PARTS);
    if server.max_file_size_mib > largest {
        let needed = server.max_file_size_mib.div_ceil(S3_MAX_PARTS).next_multiple_of(8);
        problems.add_between(
            &[key, "server.max_file_size_mib"],
            format!(
                "= {part_size_mib} is too small for server.max_file_size_mib = {}: S3 takes at most {S3_MAX_PARTS} parts",
                server.max_file_size_mib
            ),
            format!("set {key} to at least {needed}, or server.max_file_size_mib to at most {largest}"),
        );
    }
}
