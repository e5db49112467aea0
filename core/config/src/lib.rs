//! The configuration: read once and validated as a whole; all errors are reported together, each with its source and a
//! fix. Precedence: defaults < file < environment aliases < `NIGHTFERRY__SECTION__KEY` < command line. There is no
//! global state, and only [`LoadOptions::from_process`] reads the environment of the process.

mod audit;
mod auth;
mod catalog;
mod database;
mod declare;
mod env_aliases;
mod health;
mod layer;
mod limits;
mod logging;
mod merge;
mod oidc;
mod policy;
mod problem;
mod reader;
mod reconcile;
mod reference_docs;
mod scrub;
mod server;
mod spec;
mod stores;
mod table;
mod tiering;
pub mod timetable;
mod uploads;
mod validators;
mod value;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use self::audit::AuditConfig;
pub use self::auth::{AuthConfig, SigningAlgorithm};
pub use self::catalog::CatalogConfig;
pub use self::database::{DatabaseConfig, DatabaseTls};
pub use self::health::HealthConfig;
pub use self::limits::LimitsConfig;
pub use self::logging::{LogFormat, LoggingConfig};
pub use self::oidc::OidcConfig;
pub use self::policy::{Globs, PolicyConfig, Price, PriceConfig, RuleConfig};
pub use self::problem::{ConfigErrors, Problem};
pub use self::reconcile::ReconcileConfig;
pub use self::reference_docs::{configuration_tables, example_toml};
pub use self::scrub::ScrubConfig;
pub use self::server::{CorsConfig, ForwardedHeader, ServerConfig};
pub use self::stores::{StoreConfig, is_exposed};
pub use self::tiering::{ArchiveTier, FreeLocalAfter, TieringConfig, TransferOrder, VerifyMode};
pub use self::uploads::UploadsConfig;
pub use nightferry_ground::store_role::StoreRole;
pub use timetable::{Bandwidth, Window};

use self::declare::{Field as _, settings};
use self::problem::Problems;
use self::reader::Reader;

/// Bytes in a MiB, the unit of every setting whose name ends in `_mib`.
pub const MEBIBYTE: u64 = 1024 * 1024;

/// Maximum number of parts in a multipart upload (S3 `CreateMultipartUpload`).
pub const S3_MAX_PARTS: u64 = 10_000;

const DEFAULT_SOURCE: &str = "default";

settings! {
    /// The complete configuration.
    pub struct Config {
        /// Address and timeouts of the HTTP server.
        pub server: ServerConfig;
        /// Memory and time limits of uploads.
        pub uploads: UploadsConfig;
        /// Connection to Postgres, and its time limits.
        pub database: DatabaseConfig;
        /// Credentials and their lifetimes.
        pub auth: AuthConfig;
        /// Limits for requests and for failed sign-ins.
        pub limits: LimitsConfig;
        /// The audit log.
        pub audit: AuditConfig;
        /// The S3 stores for file contents. "minio" and "s3" exist by default; any number can be added, each in a
        /// section `[stores.NAME]` with a name of at most 32 characters a-z, 0-9 and hyphen. At least one local store
        /// and one cloud store must be enabled.
        pub stores: BTreeMap<String, StoreConfig>;
        /// When and how files are copied to the cloud, and when their local copies are evicted.
        pub tiering: TieringConfig;
        /// How a process determines which stores are healthy, and how many results a change of state requires.
        pub health: HealthConfig;
        /// Policy rules and prices.
        pub policy: PolicyConfig;
        /// Schedule and behaviour of reconcile passes.
        pub reconcile: ReconcileConfig;
        /// Schedule, rate and duration of scrub passes.
        pub scrub: ScrubConfig;
        /// Snapshots of the catalogue in the cloud store.
        pub catalog: CatalogConfig;
        /// Log level, format and files.
        pub logging: LoggingConfig;
    }
    derived {
        /// Every effective setting.
        settings: Vec<Setting>,
        /// Former names of settings that are in use.
        warnings: Vec<String>,
    }
}

/// One effective setting, for display.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// The value; a secret is shown as `********`.
    pub value: String,
    /// The source of the value.
    pub source: String,
}

/// The sources of the configuration. The default reads only the built-in defaults.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// The file named on the command line.
    pub file: Option<PathBuf>,
    /// Settings from the command line: dotted key and value, as text. Later ones override earlier ones.
    pub overrides: Vec<(String, String)>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The default locations of the file; the first existing one is read.
    pub search: Vec<PathBuf>,
}

impl fmt::Debug for LoadOptions {
    /// Without values, because the environment and the command line contain secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("file", &self.file)
            .field("overrides", &self.overrides.iter().map(|(key, _)| key).collect::<Vec<_>>())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("search", &self.search)
            .finish()
    }
}

impl LoadOptions {
    /// The options of a real process: its environment, and the default file locations.
    pub fn from_process(file: Option<PathBuf>, overrides: Vec<(String, String)>) -> Self {
        let env = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        let search =
            ["config/nightferry.toml", "/etc/nightferry/nightferry.toml"].map(PathBuf::from).to_vec();
        Self { file, overrides, env, search }
    }
}

impl Config {
    /// Reads and validates everything. The error contains all problems, not only the first one.
    pub fn load(options: LoadOptions) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let layers = layer::all(options, &mut problems);
        let merged = merge::merge(layers, &mut problems);
        let mut reader = Reader::new(&merged, &mut problems);
        let read = Self::read("", &mut reader);
        let settings = reader.into_settings();
        let Some(mut config) = read else { return Err(problems.into_errors()) };
        config.settings = settings;
        config.warnings = problems.take_warnings();
        config.derive(&mut problems);
        config.check(&mut problems);
        problems.into_result().map(|()| config)
    }

    /// Warnings that do not prevent the start: settings under their former names, key files readable by other users.
    pub fn warnings(&self) -> Vec<String> {
        let exposed = self.stores.values().filter_map(StoreConfig::key_warning);
        self.warnings.iter().cloned().chain(exposed).collect()
    }

    /// Every effective setting with its source, in the order of the documentation. Secrets are masked.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The stores with a role, in alphabetical order.
    pub fn stores_with(&self, role: StoreRole) -> impl Iterator<Item = (&str, &StoreConfig)> {
        self.stores
            .iter()
            .filter(move |(_, store)| store.role == role)
            .map(|(name, store)| (name.as_str(), store))
    }

    /// The capacity of a store in bytes; `None` if there is no limit.
    pub fn capacity_of(&self, store: &str) -> Option<u64> {
        let config = self.stores.get(store)?;
        let of_role = || self.tiering.local_capacity.filter(|_| config.role == StoreRole::Local);
        config.capacity.or_else(of_role).map(|capacity| capacity.0)
    }

    /// Derives settings from others.
    fn derive(&mut self, problems: &mut Problems) {
        if let Some(said) = self.database.adopt_tls_of_url(problems) {
            self.show_derived("database.tls", said, "sslmode in database.url");
        }
        for (key, endpoint) in stores::derive_endpoints(&mut self.stores, problems) {
            self.show_derived(&key, &endpoint, "default of the region");
        }
        stores::load_keys(&mut self.stores, problems);
        for (key, role) in
            [("tiering.local_store", StoreRole::Local), ("tiering.cloud_store", StoreRole::Cloud)]
        {
            if let Some(name) = self.choose_store(key, role, problems) {
                self.show_derived(key, &name, "the only store with that role");
            }
        }
    }

    /// Sets the store of a role if none is named and there is only one candidate.
    fn choose_store(&mut self, key: &str, role: StoreRole, problems: &mut Problems) -> Option<String> {
        let names: Vec<String> = self.stores_with(role).map(|(name, _)| name.to_owned()).collect();
        // A store with an invalid role may be the missing one.
        let roles_known = !self.stores.keys().any(|name| problems.is_wrong(&format!("stores.{name}.role")));
        let chosen = match role {
            StoreRole::Local => &mut self.tiering.local_store,
            StoreRole::Cloud => &mut self.tiering.cloud_store,
        };
        match (chosen.as_str(), names.as_slice()) {
            ("", [only]) => {
                chosen.clone_from(only);
                return Some(only.clone());
            }
            (_, []) if roles_known => {
                problems.add_from(
                    "all sources together",
                    "stores",
                    format!("has no enabled store with role = \"{role}\""),
                    format!("add a section [stores.NAME] with role = \"{role}\", or enable one"),
                );
            }
            ("", _) if roles_known => problems.add(
                key,
                format!("is not set, and several stores have role = \"{role}\": {}", names.join(", ")),
                "name one of them",
            ),
            (name, _) if roles_known && !names.iter().any(|known| known == name) => problems.add(
                key,
                format!("= \"{name}\" is not an enabled store with role = \"{role}\""),
                format!("name one of: {}", names.join(", ")),
            ),
            _ => {}
        }
        None
    }

    fn check(&self, problems: &mut Problems) {
        self.auth.check(&self.server, problems);
        self.audit.check(problems);
        self.uploads.check(&self.server, problems);
        self.tiering.check(&self.server, problems);
        self.policy.check(self, problems);
        stores::check_distinct(&self.stores, problems);
        self.check_replicas(problems);
    }

    /// Replicas that no store could hold would be promised but never made.
    fn check_replicas(&self, problems: &mut Problems) {
        for (key, wanted, role) in [
            ("tiering.local_replicas", self.tiering.local_replicas, StoreRole::Local),
            ("tiering.cloud_replicas", self.tiering.cloud_replicas, StoreRole::Cloud),
        ] {
            let stores = self.stores_with(role).count();
            if wanted > 1 && wanted > stores {
                problems.add(
                    key,
                    format!(
                        "= {wanted} requires more stores with role = \"{role}\" than there are: {stores}"
                    ),
                    format!("add a section [stores.NAME] with role = \"{role}\", or lower the number"),
                );
            }
        }
    }

    fn show_derived(&mut self, key: &str, value: &str, source: &str) {
        if let Some(setting) = self.settings.iter_mut().find(|setting| setting.key == key) {
            value.clone_into(&mut setting.value);
            source.clone_into(&mut setting.source);
        }
    }
}
