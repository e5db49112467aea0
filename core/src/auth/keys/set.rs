//! The current keys, and the cache of each process.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use diesel_async::AsyncConnection as _;
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::secret_cipher::SecretCipher;
use super::key::SigningKey;
use crate::config::{AuthConfig, SigningAlgorithm};
use crate::db::audit::{self, Origin};
use crate::db::{Database, signing_keys};
use crate::error::{Error, Result};

/// Maximum age of cached keys. Much shorter than the minimum of `auth.signing_key_lead`.
const CACHE_TTL: Duration = Duration::seconds(30);
/// Minimum interval between reloads caused by an unknown `kid` or an unavailable database.
const MIN_RELOAD_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// All keys that sign or verify, ordered by when they start to sign.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Arc<SigningKey>>);

impl KeySet {
    /// The key that signs at `now`. A key that was created to sign immediately is used even if the clock of the process
    /// that created it was ahead; otherwise instances that start together would create a key each.
    pub fn signer(&self, now: DateTime<Utc>) -> Option<&Arc<SigningKey>> {
        let has_begun = |key: &SigningKey| key.row.signs_from <= now.max(key.row.created_at);
        self.0.iter().rev().find(|key| has_begun(key) && key.verifies_at(now))
    }

    /// The key with this `kid`, if its signatures are accepted at `now`.
    pub fn find(&self, kid: &str, now: DateTime<Utc>) -> Option<&Arc<SigningKey>> {
        self.0.iter().find(|key| key.row.id == kid && key.verifies_at(now))
    }

    /// The keys whose signatures are accepted at `now`, in signing order.
    pub fn live(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.0.iter().filter(move |key| key.verifies_at(now))
    }
}

/// The keys of one process. Cheap to clone.
#[derive(Clone)]
pub struct SigningKeys {
    shared: Arc<Shared>,
}

struct Shared {
    cipher: SecretCipher,
    algorithm: SigningAlgorithm,
    known: RwLock<Option<Known>>,
    /// The time of the last failed reload, if the last one failed.
    failed: RwLock<Option<Instant>>,
    /// Held while reloading, so that other tasks wait instead of reloading too.
    reading: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<KeySet>,
    /// By the clock of the domain.
    at: DateTime<Utc>,
    /// By the monotonic clock of the process.
    read: Instant,
}

impl SigningKeys {
    /// Starts without keys: they are loaded on first use.
    pub(in crate::auth) fn new(config: &AuthConfig) -> Self {
        let cipher = SecretCipher::new(&config.secret_key, "nightferry signing keys 1");
        let shared = Shared {
            cipher,
            algorithm: config.algorithm,
            known: RwLock::default(),
            failed: RwLock::default(),
            reading: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Encrypts new keys.
    pub(super) fn cipher(&self) -> &SecretCipher {
        &self.shared.cipher
    }

    /// The keys, at most [`CACHE_TTL`] old; the cached keys while the database is unavailable.
    ///
    /// # Errors
    /// Any database error, if no keys are cached.
    pub async fn current(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<KeySet>> {
        let fresh = |known: &Known| (now - known.at).abs() < CACHE_TTL;
        if let Some(known) = self.known().filter(fresh) {
            return Ok(known.keys);
        }
        let Some(_reading) = self.acquire_reload().await else {
            return self.known().map(|known| known.keys).ok_or_else(away);
        };
        if let Some(known) = self.known().filter(fresh) {
            return Ok(known.keys);
        }
        match (self.reload(db, now).await, self.known()) {
            (Err(error), Some(known)) => {
                tracing::warn!(%error, "cannot reload the signing keys; the cached ones are used");
                Ok(known.keys)
            }
            (read, _) => read,
        }
    }

    /// The key with a `kid`. For an unknown one, checks whether another process has just created it.
    pub(in crate::auth) async fn find(
        &self,
        db: &Database,
        kid: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<SigningKey>>> {
        if let Some(key) = self.current(db, now).await?.find(kid, now) {
            return Ok(Some(key.clone()));
        }
        // While the database is unavailable, it is unknown whether there is such a key.
        let Some(_reading) = self.acquire_reload().await else { return Err(away()) };
        let keys = match self.known().filter(|known| known.read.elapsed() < MIN_RELOAD_INTERVAL) {
            Some(known) => known.keys,
            None => self.reload(db, now).await?,
        };
        Ok(keys.find(kid, now).cloned())
    }

    /// Waits until no other task is reloading. `None` if the database is unavailable: if it just failed to respond, or
    /// if it failed last time and another task is trying again. While it is unavailable, only one task waits for it.
    async fn acquire_reload(&self) -> Option<MutexGuard<'_, ()>> {
        let reading = match self.failed() {
            Some(at) if at.elapsed() < MIN_RELOAD_INTERVAL => return None,
            Some(_) => self.shared.reading.try_lock().ok()?,
            None => self.shared.reading.lock().await,
        };
        // The previous holder may have found that it is unavailable.
        let is_away = self.failed().is_some_and(|at| at.elapsed() < MIN_RELOAD_INTERVAL);
        (!is_away).then_some(reading)
    }

    /// Loads the keys, and records whether the database responded.
    async fn reload(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<KeySet>> {
        let read = self.read(db, now).await;
        let failed = read.is_err().then(Instant::now);
        *self.shared.failed.write() = failed;
        read
    }

    fn failed(&self) -> Option<Instant> {
        *self.shared.failed.read()
    }

    /// Clears the cache.
    pub(super) fn forget(&self) {
        *self.shared.known.write() = None;
    }

    fn known(&self) -> Option<Known> {
        self.shared.known.read().clone()
    }

    /// Loads the keys, and creates the first one if this process can use none.
    async fn read(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<KeySet>> {
        let mut conn = db.conn().await?;
        let mut keys = self.open(signing_keys::live(&mut conn, now).await?);
        if keys.signer(now).is_none() {
            let shared = &self.shared;
            let rows = conn
                .transaction(async move |conn| -> Result<_> {
                    signing_keys::lock(conn).await?;
                    let mut rows = signing_keys::live(conn, now).await?;
                    // Another process may have created it while this one was waiting.
                    if self.open(rows.clone()).signer(now).is_none() {
                        let row = SigningKey::generate(shared.algorithm, now, now, &shared.cipher).await?;
                        signing_keys::insert(conn, &row).await?;
                        let (origin, target) = (Origin::default(), ("signing_key", &row.id));
                        let detail = serde_json::json!({ "algorithm": row.algorithm });
                        audit::record(conn, &origin, None, "keys.create", target, detail).await?;
                        tracing::info!(key = %row.id, algorithm = %row.algorithm, "created the first \
                            signing key");
                        rows.push(row);
                    }
                    Ok(rows)
                })
                .await?;
            keys = self.open(rows);
        }
        if keys.signer(now).is_none() {
            return Err(Error::Internal("there is no key to sign access tokens with".to_owned()));
        }
        let keys = Arc::new(keys);
        let known = Known { keys: keys.clone(), at: now, read: Instant::now() };
        *self.shared.known.write() = Some(known);
        Ok(keys)
    }

    fn open(&self, rows: Vec<signing_keys::SigningKeyRow>) -> KeySet {
        let open = |row: signing_keys::SigningKeyRow| {
            let id = row.id.clone();
            let opened = SigningKey::open(row, &self.shared.cipher);
            if opened.is_none() {
                tracing::error!(key = %id, "a signing key cannot be decrypted: it was created with another \
                    auth.secret_key");
            }
            opened.map(Arc::new)
        };
        KeySet(rows.into_iter().filter_map(open).collect())
    }
}

fn away() -> Error {
    Error::DatabaseUnavailable("the signing keys are currently unavailable".to_owned())
}
