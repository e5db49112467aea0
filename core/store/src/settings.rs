//! The settings of a store. Plain values, independent of the configuration.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use nightferry_ground::store_role::StoreRole;

use crate::encryption::Keyring;

/// The configured name of a store, such as `minio` or `s3`: `[a-z][a-z0-9-]{0,31}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreName(String);

/// An invalid store name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid store name: use 1 to 32 of a-z, 0-9 and '-', starting with a letter, such as \
        \"minio\""
)]
pub struct StoreNameError(String);

impl StoreName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoreName {
    type Err = StoreNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        let goes_on_well = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if begins_well && goes_on_well && text.len() <= 32 {
            Ok(Self(text.to_owned()))
        } else {
            Err(StoreNameError(text.to_owned()))
        }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The timeouts of a store. A body has no total limit, so that its size does not matter, but must make progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For a whole request without a large body, and for the first byte of any response.
    pub control: Duration,
    /// Maximum wait for the next byte of a body, in either direction.
    pub idle: Duration,
    /// For the response to `CompleteMultipartUpload`, which may take S3 minutes for thousands of parts.
    pub complete: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            control: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            complete: Duration::from_secs(300),
        }
    }
}

/// One S3 endpoint and bucket. `Debug` does not show the secrets.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The configured name of the store.
    pub name: StoreName,
    /// Role of the store.
    pub role: StoreRole,
    /// `http://host:port` or `https://…`, as reached by this process.
    pub endpoint: String,
    /// As reached by clients, for presigned URLs; the endpoint itself if absent.
    pub public_endpoint: Option<String>,
    /// Region for signatures.
    pub region: String,
    /// Bucket that holds the objects.
    pub bucket: String,
    /// Access key id.
    pub access_key: SecretString,
    /// Secret access key.
    pub secret_key: SecretString,
    /// Session token of temporary credentials.
    pub session_token: Option<SecretString>,
    /// Path-style addressing (`host/bucket/key`) instead of virtual hosts (`bucket.host/key`).
    pub path_style: bool,
    /// `x-amz-storage-class` of new objects, unless the request names another.
    pub storage_class: Option<String>,
    /// Keys for encrypting and decrypting its objects; `None` if it never contained an encrypted one.
    pub keys: Option<Arc<Keyring>>,
    /// Timeouts.
    pub deadlines: Deadlines,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn store_names_are_short_and_plain() {
        for good in ["s3", "minio", "a", "cold-2", &"a".repeat(32)] {
            assert_eq!(good.parse::<StoreName>().unwrap().as_str(), good);
        }
        for wrong in ["", "S3", "2nd", "-a", "a_b", "a b", "é", &"a".repeat(33)] {
            assert!(wrong.parse::<StoreName>().is_err(), "{wrong:?}");
        }
    }
}
