//! The S3 stores for file contents: endpoint, role and time limits of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nightferry_ground::encryption::Keyring;
use nightferry_ground::store_role::StoreRole;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use super::declare::settings;
use super::problem::Problems;
use super::validators;
use nightferry_ground::units::ByteCount;

settings! {
    /// A `[stores.NAME]` section.
    #[allow(clippy::struct_excessive_bools, reason = "switches of the configuration, independent of each other")]
    pub struct StoreConfig {
        /// Whether the store is used. If false, its other settings are not read; use this to disable a default store.
        pub enabled: bool = true;
        /// Uploads are written to a local store, and the worker copies them to a cloud store.
        pub role: StoreRole, required("\"local\" or \"cloud\"");
        /// Scheme, host and port of its S3 API.
        pub endpoint: String,
            text("scheme, host and port such as \"http://127.0.0.1:9000\"", validators::endpoint),
            unset("for a cloud store, the AWS endpoint of the region; required for a local store");
        /// The endpoint for clients, used in presigned URLs.
        pub public_endpoint: Option<String>,
            text("scheme, host and port such as \"https://s3.example.org\"", validators::endpoint),
            unset("same as endpoint");
        /// Region of the bucket, which is part of every request signature. For MinIO, "us-east-1".
        pub region: String = "us-east-1", text("a region such as \"eu-central-1\"", validators::region);
        /// The bucket, used by Nightferry alone.
        pub bucket: String,
            text("a bucket name, 3 to 63 of a-z, 0-9, hyphen and dot", validators::bucket),
            required("the name of a bucket used only by Nightferry");
        /// Access key id.
        pub access_key: SecretString, text("an access key id", validators::credential), required(CREDENTIALS);
        /// Secret access key.
        pub secret_key: SecretString, text("a secret access key", validators::credential), required(CREDENTIALS);
        /// Token of temporary credentials (AWS STS).
        pub session_token: Option<SecretString>,
            text("a session token", validators::credential), unset("permanent keys");
        /// Whether the bucket is named in the path (`http://host/bucket`) instead of the host name
        /// (`http://bucket.host`).
        pub path_style: bool = true;
        /// Storage class of new objects. Archive classes are not allowed: their objects cannot be read without a
        /// restore.
        pub storage_class: Option<String>,
            text("a storage class such as \"STANDARD_IA\"", validators::storage_class), unset("the default \
                of the store");
        /// Whether objects are encrypted before they are sent to this cloud store. Requires a key. If the key is lost,
        /// the files are lost: see docs/encryption.md.
        pub encryption: bool = false;
        /// File with the encryption keys, one ID:KEY per line, created by `nightferry encryption-key generate`. The
        /// first one encrypts, all of them decrypt.
        pub encryption_key_file: Option<PathBuf>,
            text("the path of a key file", validators::file_path), unset("encryption_keys, or no encryption");
        /// The encryption keys, as in the file, separated by commas: for environments that provide secrets as
        /// variables.
        pub encryption_keys: Option<SecretString>,
            text("keys as ID:KEY, separated by commas or line breaks", validators::keys),
            unset("encryption_key_file, or no encryption");
        /// Capacity of the store, such as "500GiB" or "2TB". For a local store, `tiering.high_watermark` and
        /// `tiering.low_watermark` are percentages of it; for a cloud store, it is only displayed.
        pub capacity: Option<ByteCount>,
            unset("tiering.local_capacity for a local store, no limit for a cloud store");
        /// Whether a missing bucket is created at start. For development; create buckets explicitly in production.
        pub create_bucket: bool = false;
        /// Time limit for opening a connection.
        pub connect_timeout: Duration = "5s", lasts("1s", "5m");
        /// Time limit of a request without file content.
        pub control_timeout: Duration = "30s", lasts("1s", "10m");
        /// How long a transfer may make no progress before it is aborted and retried.
        pub idle_timeout: Duration = "30s", lasts("1s", "10m");
    }
    derived {
        /// The parsed keys.
        pub keyring: Option<Arc<Keyring>>,
    }
}

impl StoreConfig {
    /// A warning about the protection of its keys.
    pub fn key_warning(&self) -> Option<String> {
        let path = self.encryption_key_file.as_deref().filter(|path| is_exposed(path))?;
        let path = path.display();
        Some(format!("the key file {path} is readable by other users: chmod 600 {path}"))
    }
}

/// Sets the AWS endpoint for cloud stores without one. Returns the keys that were set, with their values.
pub(super) fn derive_endpoints(
    stores: &mut BTreeMap<String, StoreConfig>,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut derived = Vec::new();
    for (name, store) in stores.iter_mut().filter(|(_, store)| store.endpoint.is_empty()) {
        let key = format!("stores.{name}.endpoint");
        if store.role == StoreRole::Local {
            problems.add_between(
                &[&key, &format!("stores.{name}.role")],
                "is missing; only a cloud store has a default, the AWS endpoint of its region",
                format!("set {key} to the endpoint of the store, such as \"http://127.0.0.1:9000\""),
            );
            continue;
        }
        let domain = if store.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        store.endpoint = format!("https://s3.{}.{domain}", store.region);
        derived.push((key, store.endpoint.clone()));
    }
    derived
}

/// Two stores with the same bucket would appear to hold two copies of an object, and the only copy could be evicted.
pub(super) fn check_distinct(stores: &BTreeMap<String, StoreConfig>, problems: &mut Problems) {
    let mut places: BTreeMap<(String, &str), &str> = BTreeMap::new();
    for (name, store) in stores {
        if store.bucket.is_empty() {
            continue;
        }
        if let Some(other) = places.insert((place(&store.endpoint), &store.bucket), name) {
            problems.add_between(
                &[
                    &format!("stores.{name}.bucket"),
                    &format!("stores.{name}.endpoint"),
                    &format!("stores.{other}.bucket"),
                    &format!("stores.{other}.endpoint"),
                ],
                format!("is the same bucket as that of the store \"{other}\""),
                "use a separate bucket for every store",
            );
        }
    }
}

/// Loads the keys of every store, from its file or from the setting itself.
pub(super) fn load_keys(stores: &mut BTreeMap<String, StoreConfig>, problems: &mut Problems) {
    for (name, store) in stores {
        let key = |field: &str| format!("stores.{name}.{field}");
        let (switch, file, direct) = (key("encryption"), key("encryption_key_file"), key("encryption_keys"));
        if store.role == StoreRole::Local && store.encryption {
            problems.add_between(
                &[&switch, &key("role")],
                "is on for a local store; only cloud stores can be encrypted",
                format!("remove it, or encrypt the disk of \"{name}\" itself"),
            );
            continue;
        }
        let (source, text) = match (&store.encryption_key_file, &store.encryption_keys) {
            (Some(_), Some(_)) => {
                problems.add_between(
                    &[&file, &direct],
                    format!("and {direct} are both set"),
                    "configure the keys in one place, preferably in the file",
                );
                continue;
            }
            (Some(path), None) => match std::fs::read_to_string(path) {
                Ok(text) => (file, SecretString::from(text)),
                Err(error) => {
                    problems.add(
                        &file,
                        format!("= \"{}\" cannot be read: {error}", path.display()),
                        "specify the path of a file that is readable by this user; `nightferry encryption-key \
                            generate --file FILE` creates one",
                    );
                    continue;
                }
            },
            (None, Some(text)) => (direct, text.clone()),
            (None, None) if store.encryption => {
                problems.add(
                    &switch,
                    "is on, but there is no key",
                    format!(
                        "generate one with `nightferry encryption-key generate --file FILE` and set {file} to \
                        FILE"
                    ),
                );
                continue;
            }
            (None, None) => continue,
        };
        match Keyring::parse(text.expose_secret(), store.encryption) {
            Ok(keys) => store.keyring = Some(Arc::new(keys)),
            Err(wrong) => {
                for problem in wrong.0 {
                    problems.add(
                        &source,
                        format!("contains invalid keys: {problem}"),
                        "write one key per line as ID:KEY, with 32 bytes in base64; `nightferry encryption-key \
                            generate` prints such a line",
                    );
                }
            }
        }
    }
}

/// Whether others than the owner can read a file. Always false on systems without such permissions.
pub fn is_exposed(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

fn place(endpoint: &str) -> String {
    let Ok(url) = Url::parse(endpoint) else { return endpoint.to_owned() };
    let host = match url.host_str() {
        Some("localhost" | "[::1]") => "127.0.0.1",
        Some(host) => host,
        None => "",
    };
    format!("{host}:{}", url.port_or_known_default().unwrap_or(0))
}

const CREDENTIALS: &str = "the access key of the store for this bucket";
