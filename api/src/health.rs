//! Readiness of this service: the checks run in parallel with a deadline, and at most every few seconds, so that
//! clients cannot load the stores by polling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use nightferry_api_types::health::{Checks, Ready, WorkerCheck};
use nightferry_core::context::Context;
use nightferry_core::db::{connection, workers};
use nightferry_core::error::Error;
use nightferry_core::object::health;
use nightferry_core::store::{Store, StoreRole};
use nightferry_core::stores::Identity;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::Instrument as _;

/// The deadline of each check.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long a result is reused.
const CACHE_TTL: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Whether the database responds, and accepts writes.
    pub(crate) database: Database,
    /// Whether each store responds and is healthy, by name.
    pub(crate) stores: BTreeMap<String, bool>,
    /// The stores whose identity is in doubt, with the kind of doubt.
    pub(crate) doubts: BTreeMap<String, &'static str>,
    /// Whether the database lacks the objects of the stores.
    pub(crate) is_catalogue_lost: bool,
    /// Whether any local store responds.
    pub(crate) local: bool,
    /// The last heartbeat of any worker.
    pub(crate) last_heartbeat: Option<DateTime<Utc>>,
    /// Whether the clock of this machine differs too much from that of the database.
    pub(crate) is_clock_wrong: bool,
}

/// The state of the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Database {
    /// It does not respond.
    #[default]
    Down,
    /// It responds, but nothing can be written: after a failover, for example.
    ReadOnly,
    /// It can be used.
    Ok,
}

impl Database {
    fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::ReadOnly => "read-only",
            Self::Ok => "ok",
        }
    }
}

impl Report {
    /// Whether requests can be served. A cloud store that is down does not prevent this: reads and uploads work.
    pub(crate) fn is_ready(&self) -> bool {
        self.database == Database::Ok && self.local
    }

    /// Whether all checks passed.
    pub(crate) fn is_whole(&self) -> bool {
        let are_stores_well = self.stores.values().all(|up| *up) && self.doubts.is_empty();
        self.is_ready() && !self.is_clock_wrong && !self.is_catalogue_lost && are_stores_well
    }
}

impl From<&Report> for Ready {
    fn from(report: &Report) -> Self {
        let word = |up: bool| if up { "ok" } else { "down" };
        let status = match (report.is_ready(), report.is_whole()) {
            (false, _) => "unavailable",
            (true, false) => "degraded",
            (true, true) => "ok",
        };
        Self {
            status,
            checks: Checks {
                database: report.database.as_str(),
                identity: report.doubts.clone(),
                catalogue: if report.is_catalogue_lost { "empty" } else { "ok" },
                stores: report.stores.iter().map(|(name, up)| (name.clone(), word(*up))).collect(),
                worker: WorkerCheck { last_heartbeat: report.last_heartbeat },
                clock: if report.is_clock_wrong { "wrong" } else { "ok" },
            },
        }
    }
}

#[derive(Default)]
pub(crate) struct Probes {
    last: Arc<Mutex<Last>>,
}

/// The last report, and when it was created.
type Last = Option<(Instant, Arc<Report>)>;

impl Probes {
    /// A report that is at most a few seconds old. Concurrent callers wait for the one in progress.
    pub(crate) async fn report(&self, context: &Context) -> Arc<Report> {
        let last = self.last.clone().lock_owned().await;
        if let Some((at, report)) = last.as_ref()
            && at.elapsed() < CACHE_TTL
        {
            return report.clone();
        }
        // In a separate task: otherwise a check whose client disconnects would be started again immediately by the next
        // request.
        let looking = tokio::spawn(check_and_cache(context.clone(), last).in_current_span());
        looking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the health check task failed");
            Arc::default()
        })
    }
}

async fn check_and_cache(context: Context, mut last: OwnedMutexGuard<Last>) -> Arc<Report> {
    let report = Arc::new(check_now(&context).await);
    *last = Some((Instant::now(), report.clone()));
    report
}

async fn check_now(context: &Context) -> Report {
    let stores = join_all(context.stores.all().map(|store| async move {
        // A store that has just recovered is not trusted immediately.
        let answers = answers(context, store).await;
        (store.name().to_string(), answers && context.stores.health().is_up(store.name().as_str()))
    }));
    let ((database, last_heartbeat), stores) = tokio::join!(check_database(context), stores);
    let stores: BTreeMap<String, bool> = stores.into_iter().collect();
    let locals = context.stores.names_with(StoreRole::Local);
    let local = locals.iter().any(|name| stores.get(*name).copied().unwrap_or(false));
    let is_clock_wrong = context.clock.is_wrong();
    let is_catalogue_lost = context.stores.empty_catalogue().is_beside_objects();
    let doubts = doubts(context);
    Report { database, stores, doubts, is_catalogue_lost, local, last_heartbeat, is_clock_wrong }
}

/// As of the last check of the identities by this process.
fn doubts(context: &Context) -> BTreeMap<String, &'static str> {
    let identities = context.stores.health().identities();
    let known = context.stores.all().filter_map(|store| {
        let identity = identities.of(store.name().as_str()).filter(Identity::is_in_doubt)?;
        Some((store.name().to_string(), identity.word()))
    });
    known.collect()
}

/// The state of the database, and the last heartbeat of any worker.
async fn check_database(context: &Context) -> (Database, Option<DateTime<Utc>>) {
    let asking = async {
        let mut conn = context.db.conn().await?;
        let is_writable = connection::is_writable(&mut conn).await?;
        Ok::<_, Error>((is_writable, workers::last_heartbeat(&mut conn).await?))
    };
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(Ok((true, at))) => return (Database::Ok, at),
        Ok(Ok((false, at))) => {
            tracing::warn!("the database accepts no writes");
            return (Database::ReadOnly, at);
        }
        Ok(Err(error)) => tracing::warn!(%error, "the database is not healthy"),
        Err(_) => tracing::warn!("the health check of the database timed out"),
    }
    (Database::Down, None)
}

/// The results are also used as health checks of the stores.
async fn answers(context: &Context, store: &Store) -> bool {
    match tokio::time::timeout(DEADLINE, health::check_store(context, store)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::warn!(store = %store.name(), error, "a store is not healthy"),
        Err(_) => tracing::warn!(store = %store.name(), "the health check of a store timed out"),
    }
    false
}
