//! The S3 stores that hold the bytes: where each is, its part in the ferry, and its deadlines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::encryption::Keyring;

use super::problem::Problems;
use super::spec::{Kind, Spec};
use super::{rules, words};

/// A `[stores.NAME]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "switches of the configuration, independent of each other")]
pub struct StoreConfig {
    /// Whether the store is used. Stores that are not never reach [`Config::stores`](super::Config::stores).
    pub enabled: bool,
    /// Its part in the ferry.
    pub role: StoreRole,
    /// Scheme, host and port of its S3 API, without a trailing slash. Never empty once loaded: for a cloud store
    /// without one it is AWS's endpoint of the region.
    pub endpoint: String,
    /// The endpoint as clients see it, for presigned URLs, where that differs.
    #[serde(deserialize_with = "words::optional")]
    pub public_endpoint: Option<String>,
    /// Region for signatures.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Access key id.
    pub access_key: SecretString,
    /// Secret access key.
    pub secret_key: SecretString,
    /// Token of temporary credentials (AWS STS).
    #[serde(deserialize_with = "words::optional")]
    pub session_token: Option<SecretString>,
    /// Whether the bucket is named in the path instead of the host name.
    pub path_style: bool,
    /// Value of `x-amz-storage-class` for objects written.
    #[serde(deserialize_with = "words::optional")]
    pub storage_class: Option<String>,
    /// Whether what is written there is encrypted before.
    pub encryption: bool,
    /// File with the keys of its encrypted objects.
    #[serde(deserialize_with = "words::optional")]
    pub encryption_key_file: Option<PathBuf>,
    /// The keys themselves, where there is no file.
    #[serde(deserialize_with = "words::optional")]
    pub encryption_keys: Option<SecretString>,
    /// The keys, read.
    #[serde(skip)]
    pub keyring: Option<Arc<Keyring>>,
    /// Bytes that it may hold; none: as [`Config::capacity_of`](super::Config::capacity_of) says.
    #[serde(deserialize_with = "words::bytes")]
    pub capacity: Option<u64>,
    /// Whether a missing bucket is created at start.
    pub create_bucket: bool,
    /// Deadline for opening a connection.
    #[serde(deserialize_with = "words::duration")]
    pub connect_timeout: Duration,
    /// Deadline of a call that carries no file.
    #[serde(deserialize_with = "words::duration")]
    pub control_timeout: Duration,
    /// How long a transfer may stand still.
    #[serde(deserialize_with = "words::duration")]
    pub idle_timeout: Duration,
}

/// A store's part in the ferry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreRole {
    /// Near and fast: uploads land here.
    Local,
    /// Far and cheap: the worker copies to here.
    Cloud,
}

impl StoreRole {
    /// The word used in the configuration, in tables and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cloud => "cloud",
        }
    }
}

impl StoreConfig {
    /// What is unsafe about its keys, in words, though they work.
    pub fn key_warning(&self) -> Option<String> {
        let path = self.encryption_key_file.as_deref().filter(|path| is_exposed(path))?;
        let path = path.display();
        Some(format!("the key file {path} can be read by others than its owner: chmod 600 {path}"))
    }
}

/// Fills in AWS's endpoint where a cloud store has none. Returns the keys that were filled, with their values.
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
                "is missing; only a cloud store has a default, AWS's endpoint of its region",
                format!("set {key} to the store's address, such as \"http://127.0.0.1:9000\""),
            );
            continue;
        }
        let domain = if store.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        store.endpoint = format!("https://s3.{}.{domain}", store.region);
        derived.push((key, store.endpoint.clone()));
    }
    derived
}

/// Two names for one bucket would let the ferry free the only copy, believing in a second one.
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
                "give every store a bucket of its own",
            );
        }
    }
}

/// Reads the keys of every store, from its file or from the setting itself.
pub(super) fn load_keys(stores: &mut BTreeMap<String, StoreConfig>, problems: &mut Problems) {
    for (name, store) in stores {
        let key = |field: &str| format!("stores.{name}.{field}");
        let (switch, file, direct) = (key("encryption"), key("encryption_key_file"), key("encryption_keys"));
        if store.role == StoreRole::Local && store.encryption {
            problems.add_between(
                &[&switch, &key("role")],
                "is on for a local store; only what leaves for a cloud store is encrypted",
                format!("remove it, or encrypt the disk of \"{name}\" itself"),
            );
            continue;
        }
        let (source, text) = match (&store.encryption_key_file, &store.encryption_keys) {
            (Some(_), Some(_)) => {
                problems.add_between(
                    &[&file, &direct],
                    format!("and {direct} are both set"),
                    "keep the keys in one place, best in the file",
                );
                continue;
            }
            (Some(path), None) => match std::fs::read_to_string(path) {
                Ok(text) => (file, SecretString::from(text)),
                Err(error) => {
                    problems.add(
                        &file,
                        format!("= \"{}\" cannot be read: {error}", path.display()),
                        "give the path of a file that this user may read; `nightferry key generate --file FILE` makes one",
                    );
                    continue;
                }
            },
            (None, Some(text)) => (direct, text.clone()),
            (None, None) if store.encryption => {
                problems.add(
                    &switch,
                    "is on, and there is no key",
                    format!("make one with `nightferry key generate --file FILE` and set {file} to FILE"),
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
                        format!("holds keys that cannot be used: {problem}"),
                        "write one key a line as ID:KEY, with 32 bytes in base64; `nightferry key generate` prints such a line",
                    );
                }
            }
        }
    }
}

/// Whether others than its owner may read a file. Always false where files have no such rights.
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

const CREDENTIALS: &str = "the key that the store gave out for this bucket";

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "stores.*.enabled",
        Kind::Switch,
        "Whether the store is used. When false, nothing else of it is read; that is how a default store is left out.",
    ),
    Spec::new(
        "stores.*.role",
        Kind::OneOf(&["local", "cloud"]),
        "Its part in the ferry: uploads land on a local store, and the worker copies them to a cloud store.",
    )
    .required("\"local\" or \"cloud\""),
    Spec::new(
        "stores.*.endpoint",
        Kind::Text { what: "scheme, host and port such as \"http://127.0.0.1:9000\"", rule: rules::endpoint },
        "Scheme, host and port of its S3 API.",
    )
    .optional("for a cloud store, AWS's endpoint of the region; a local store needs one"),
    Spec::new(
        "stores.*.public_endpoint",
        Kind::Text { what: "scheme, host and port such as \"https://s3.example.org\"", rule: rules::endpoint },
        "The endpoint as clients see it, for the presigned URLs that they are given.",
    )
    .optional("the same as endpoint"),
    Spec::new(
        "stores.*.region",
        Kind::Text { what: "a region such as \"eu-central-1\"", rule: rules::region },
        "Region of the bucket; it is part of every signature. MinIO answers to \"us-east-1\".",
    ),
    Spec::new(
        "stores.*.bucket",
        Kind::Text { what: "a bucket name, 3 to 63 of a-z, 0-9, hyphen and dot", rule: rules::bucket },
        "The bucket, for Nightferry alone.",
    )
    .required("the name of a bucket that is for Nightferry alone"),
    Spec::new("stores.*.access_key", Kind::Text { what: "an access key id", rule: rules::credential }, "Access key id.")
        .secret()
        .required(CREDENTIALS),
    Spec::new(
        "stores.*.secret_key",
        Kind::Text { what: "a secret access key", rule: rules::credential },
        "Secret access key.",
    )
    .secret()
    .required(CREDENTIALS),
    Spec::new(
        "stores.*.session_token",
        Kind::Text { what: "a session token", rule: rules::credential },
        "Token of temporary credentials (AWS STS).",
    )
    .secret()
    .optional("the keys are permanent ones"),
    Spec::new(
        "stores.*.path_style",
        Kind::Switch,
        "Whether the bucket is named in the path (http://host/bucket) instead of the host name (http://bucket.host).",
    ),
    Spec::new(
        "stores.*.storage_class",
        Kind::Text { what: "a storage class such as \"STANDARD_IA\"", rule: rules::storage_class },
        "Storage class of the objects written there. Archive classes are refused: their objects cannot be read without \
         a restore.",
    )
    .optional("the store's default"),
    Spec::new(
        "stores.*.encryption",
        Kind::Switch,
        "Whether objects are encrypted before they are sent to this cloud store. Needs a key. Losing the key loses the \
         files: see docs/encryption.md.",
    ),
    Spec::new(
        "stores.*.encryption_key_file",
        Kind::Text { what: "the path of a key file", rule: rules::file_path },
        "File with the keys, one ID:KEY a line, made by `nightferry key generate`. The first one encrypts, all of them \
         decrypt.",
    )
    .optional("encryption_keys, or no encryption"),
    Spec::new(
        "stores.*.encryption_keys",
        Kind::Text { what: "keys as ID:KEY, separated by commas or line ends", rule: rules::keys },
        "The keys themselves, as in the file, separated by commas: for an environment that hands out secrets.",
    )
    .secret()
    .optional("encryption_key_file, or no encryption"),
    Spec::new(
        "stores.*.capacity",
        Kind::Text { what: "a size such as \"500GiB\"", rule: rules::size },
        "How much the store may hold, such as \"500GiB\" or \"2TB\". Of a local store it is what the marks of \
         tiering.high_watermark and tiering.low_watermark are shares of; of a cloud store it is only shown.",
    )
    .optional("tiering.local_capacity for a local store, no limit for a cloud store"),
    Spec::new(
        "stores.*.create_bucket",
        Kind::Switch,
        "Whether a missing bucket is created at start. For development; in production make buckets on purpose.",
    ),
    Spec::new("stores.*.connect_timeout", Kind::seconds(1, 300), "Deadline for opening a connection."),
    Spec::new("stores.*.control_timeout", Kind::seconds(1, 600), "Deadline of a call that carries no file."),
    Spec::new(
        "stores.*.idle_timeout",
        Kind::seconds(1, 600),
        "How long a transfer may stand still before it is given up and tried again.",
    ),
];
