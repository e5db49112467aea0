//! The configured stores by name, with the order in which they are read and written, and their health. Connects
//! `config` and `store`, which do not know each other.

mod empty_catalogue;
mod health;
mod identity;
mod pauses;
mod probes;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Config, StoreConfig};
use crate::error::{Error, Result};
use crate::store::{
    CONNECT_DEADLINE, Canary, Deadlines, HttpClient, Store, StoreName, StoreRole, StoreSettings,
};

pub use self::empty_catalogue::EmptyCatalogue;
pub(crate) use self::health::Failure;
pub use self::health::{Health, StoreHealth, Usability};
pub use self::identity::{Identities, Identity};
pub use self::pauses::Paused;
pub use self::probes::{Probed, Probes};

/// All configured stores. Clones share their health.
#[derive(Clone)]
pub struct Stores {
    by_name: Arc<BTreeMap<String, Store>>,
    local: String,
    cloud: String,
    health: Health,
    probes: Probes,
    empty_catalogue: EmptyCatalogue,
}

impl Stores {
    /// Creates the clients of all configured stores; connects to none.
    ///
    /// # Errors
    /// [`Error::Store`] for invalid settings.
    pub fn open(config: &Config) -> Result<Self> {
        let connect =
            config.stores.values().map(|store| store.connect_timeout).max().unwrap_or(CONNECT_DEADLINE);
        let http = HttpClient::new(connect)
            .map_err(|error| Error::Internal(format!("cannot create the HTTP client for stores: {error}")))?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let mut by_name = BTreeMap::new();
        for (name, settings_of) in &config.stores {
            let store = Store::open(settings(name, settings_of)?, &http)?;
            if config.health.canary_interval.is_none() {
                // Nothing will be found out: no response to an upload is believed, and each HEAD is.
                store.use_canary(Canary::default());
            }
            by_name.insert(name.clone(), store);
        }
        Ok(Self {
            by_name: Arc::new(by_name),
            local: config.tiering.local_store.clone(),
            cloud: config.tiering.cloud_store.clone(),
            health: Health::new(&config.health),
            probes: Probes::default(),
            empty_catalogue: EmptyCatalogue::default(),
        })
    }

    /// The store with this name, if configured.
    pub fn get(&self, name: &str) -> Option<&Store> {
        self.by_name.get(name)
    }

    /// Health of the stores as seen by this process.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Neutral probes of the stores.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Whether the database lacks the objects of the stores.
    pub fn empty_catalogue(&self) -> &EmptyCatalogue {
        &self.empty_catalogue
    }

    /// Every store, by name.
    pub fn all(&self) -> impl Iterator<Item = &Store> {
        self.by_name.values()
    }

    /// The names of the stores with this role, in the same order as [`Self::with_role`].
    pub fn names_with(&self, role: StoreRole) -> Vec<&str> {
        self.with_role(role).into_iter().map(|store| store.name().as_str()).collect()
    }

    /// The stores with this role: the main one first, then the others by name.
    pub fn with_role(&self, role: StoreRole) -> Vec<&Store> {
        let main = match role {
            StoreRole::Local => &self.local,
            StoreRole::Cloud => &self.cloud,
        };
        let mut stores: Vec<&Store> = self.all().filter(|store| store.role() == role).collect();
        stores.sort_by_key(|store| store.name().as_str() != main);
        stores
    }

    /// The main local store, which receives uploads while it is healthy.
    ///
    /// # Errors
    /// [`Error::Internal`] if it is not configured, which the validation of the configuration prevents.
    pub fn local(&self) -> Result<&Store> {
        self.configured(&self.local)
    }

    /// The main cloud store: the destination of files whose rule names no other.
    ///
    /// # Errors
    /// Like [`Self::local`].
    pub fn cloud(&self) -> Result<&Store> {
        self.configured(&self.cloud)
    }

    fn configured(&self, name: &str) -> Result<&Store> {
        self.get(name).ok_or_else(|| Error::Internal(format!("store {name} is not configured")))
    }

    /// The configured stores among these names, nearest first: local before cloud.
    pub fn nearest_first<'a>(&'a self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a Store> {
        let mut stores: Vec<&Store> = names.into_iter().filter_map(|name| self.get(name)).collect();
        stores.sort_by_key(|store| store.role() != StoreRole::Local);
        stores
    }
}

fn settings(name: &str, store: &StoreConfig) -> Result<StoreSettings> {
    let name: StoreName = name.parse().map_err(|error| Error::Internal(format!("store {name}: {error}")))?;
    Ok(StoreSettings {
        name,
        role: store.role,
        endpoint: store.endpoint.clone(),
        public_endpoint: store.public_endpoint.clone(),
        region: store.region.clone(),
        bucket: store.bucket.clone(),
        access_key: store.access_key.clone(),
        secret_key: store.secret_key.clone(),
        session_token: store.session_token.clone(),
        path_style: store.path_style,
        storage_class: store.storage_class.clone(),
        keys: store.keyring.clone(),
        deadlines: Deadlines {
            control: store.control_timeout,
            idle: store.idle_timeout,
            ..Deadlines::default()
        },
    })
}
