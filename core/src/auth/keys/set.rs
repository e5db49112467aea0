//! The keys of a moment, and how each process keeps its own set of them fresh.

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use diesel_async::AsyncConnection as _;
use parking_lot::RwLock;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::seal::Sealer;
use super::key::SigningKey;
use crate::config::{AuthConfig, SigningAlgorithm};
use crate::db::audit::{self, Event, Origin};
use crate::db::{Database, signing_keys};
use crate::error::{Error, Result};

/// Age at which a process reads the keys again. Much shorter than the shortest `auth.signing_key_lead`.
const FRESH: Duration = Duration::seconds(30);
/// How often an unknown `kid`, or a database that is away, may make a process look for keys.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// All keys that are good for something, by when they begin to sign.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Arc<SigningKey>>);

impl KeySet {
    /// The key that signs at `now`. One that was made to sign at once does, also where the clock of the process that made it
    /// was ahead: instances that start together must not make a key each.
    pub fn signer(&self, now: DateTime<Utc>) -> Option<&Arc<SigningKey>> {
        let has_begun = |key: &SigningKey| key.signs_from() <= now.max(key.created_at());
        self.0.iter().rev().find(|key| has_begun(key) && key.verifies_at(now))
    }

    /// The key of this `kid`, if what it signed is still good at `now`.
    pub fn find(&self, kid: &str, now: DateTime<Utc>) -> Option<&Arc<SigningKey>> {
        self.0.iter().find(|key| key.id() == kid && key.verifies_at(now))
    }

    /// The keys whose signatures are good at `now`, in the order in which they sign.
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
    sealer: Sealer,
    algorithm: SigningAlgorithm,
    known: RwLock<Option<Known>>,
    /// When they could not be read, if that was so the last time.
    failed: RwLock<Option<Instant>>,
    /// Held by the one who reads them, so that others wait instead of reading too.
    reading: Mutex<()>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<KeySet>,
    /// By the domain's clock.
    at: DateTime<Utc>,
    /// By the process's own.
    read: Instant,
}

impl SigningKeys {
    /// No keys yet: they are read when they are first needed.
    pub(in crate::auth) fn new(config: &AuthConfig) -> Self {
        let sealer = Sealer::new(&config.secret_key, "nightferry signing keys 1");
        let shared = Shared {
            sealer,
            algorithm: config.algorithm,
            known: RwLock::default(),
            failed: RwLock::default(),
            reading: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What seals new keys.
    pub(super) fn sealer(&self) -> &Sealer {
        &self.shared.sealer
    }

    /// The keys, at most [`FRESH`] old. While the database is away, those that are known.
    ///
    /// # Errors
    /// Whatever the database meets when none are known.
    pub async fn current(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<KeySet>> {
        let fresh = |known: &Known| (now - known.at).abs() < FRESH;
        if let Some(known) = self.known().filter(fresh) {
            return Ok(known.keys);
        }
        let Some(_reading) = self.turn_to_read().await else { return self.stand_in() };
        if let Some(known) = self.known().filter(fresh) {
            return Ok(known.keys);
        }
        match (self.read_or_note(db, now).await, self.known()) {
            (Err(error), Some(known)) => {
                tracing::warn!(%error, "the signing keys could not be read again; those known are used");
                Ok(known.keys)
            }
            (read, _) => read,
        }
    }

    /// The key of a `kid`. For one that is not known looks whether another process has just made it.
    pub(in crate::auth) async fn find(
        &self,
        db: &Database,
        kid: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<SigningKey>>> {
        if let Some(key) = self.current(db, now).await?.find(kid, now) {
            return Ok(Some(key.clone()));
        }
        // While the database is away nobody can say whether there is such a key.
        let Some(_reading) = self.turn_to_read().await else { return Err(away()) };
        let keys = match self.known().filter(|known| known.read.elapsed() < LOOK_AGAIN) {
            Some(known) => known.keys,
            None => self.read_or_note(db, now).await?,
        };
        Ok(keys.find(kid, now).cloned())
    }

    /// Waits until nobody else reads. None when the database is away: when it did not answer just now, or when it did not
    /// answer the last time and somebody is asking it again. So while it is away one waits for it, and not everybody.
    async fn turn_to_read(&self) -> Option<MutexGuard<'_, ()>> {
        let reading = match self.failed() {
            Some(at) if at.elapsed() < LOOK_AGAIN => return None,
            Some(_) => self.shared.reading.try_lock().ok()?,
            None => self.shared.reading.lock().await,
        };
        // Whoever read meanwhile may have found that it is away.
        let is_away = self.failed().is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        (!is_away).then_some(reading)
    }

    /// Reads the keys, and remembers whether the database answered.
    async fn read_or_note(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<KeySet>> {
        let read = self.read(db, now).await;
        let failed = read.is_err().then(Instant::now);
        *self.shared.failed.write() = failed;
        read
    }

    fn failed(&self) -> Option<Instant> {
        *self.shared.failed.read()
    }

    /// The known keys in place of those that cannot be read.
    fn stand_in(&self) -> Result<Arc<KeySet>> {
        self.known().map(|known| known.keys).ok_or_else(away)
    }

    /// Forgets what is known, so that the next one reads it.
    pub(super) fn forget(&self) {
        *self.shared.known.write() = None;
    }

    fn known(&self) -> Option<Known> {
        self.shared.known.read().clone()
    }

    /// Reads the keys, and makes the first one where there is none that this process can use.
    async fn read(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<KeySet>> {
        let mut conn = db.conn().await?;
        let mut keys = self.open(signing_keys::live(&mut conn, now).await?);
        if keys.signer(now).is_none() {
            let shared = &self.shared;
            let rows = conn
                .transaction(async move |conn| -> Result<_> {
                    signing_keys::lock(conn).await?;
                    let mut rows = signing_keys::live(conn, now).await?;
                    // Another process may have made it while this one waited.
                    if self.open(rows.clone()).signer(now).is_none() {
                        let row = SigningKey::generate(shared.algorithm, now, now, &shared.sealer).await?;
                        signing_keys::insert(conn, &row).await?;
                        let event = Event {
                            actor: None,
                            action: "keys.create",
                            target_type: "signing_key",
                            target_id: row.id.clone(),
                            origin: &Origin::default(),
                            detail: serde_json::json!({ "algorithm": row.algorithm }),
                        };
                        audit::record(conn, event).await?;
                        tracing::info!(key = %row.id, algorithm = %row.algorithm, "the first signing key was made");
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
            let opened = SigningKey::open(row, &self.shared.sealer);
            if opened.is_none() {
                tracing::error!(key = %id, "a signing key cannot be opened: it was made with another auth.secret_key");
            }
            opened.map(Arc::new)
        };
        KeySet(rows.into_iter().filter_map(open).collect())
    }
}

fn away() -> Error {
    Error::DatabaseUnavailable("the signing keys could not be read just now".to_owned())
}
