//! Whether this service can do its work: looked at in parallel, within a deadline, and not more often than every few
//! seconds, so that nobody can load the stores by asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use nightferry_core::context::Context;
use nightferry_core::db::workers;
use nightferry_core::error::Result;
use nightferry_core::object::health;
use nightferry_core::store::{Store, StoreRole};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::Instrument as _;

/// How long each check may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long an outcome is given out again.
const FRESH: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    /// Whether the database answers.
    pub(crate) database: bool,
    /// Whether each store answers and counts as up, by name.
    pub(crate) stores: BTreeMap<String, bool>,
    /// Whether any local store answers.
    pub(crate) local: bool,
    /// Last sign of life of any worker.
    pub(crate) last_heartbeat: Option<DateTime<Utc>>,
}

impl Report {
    /// Whether requests can be served. A cloud store that is down is no reason to stop: reads and uploads work.
    pub(crate) fn is_ready(&self) -> bool {
        self.database && self.local
    }

    /// Whether everything is as it should be.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_ready() && self.stores.values().all(|up| *up)
    }
}

/// The last report.
#[derive(Default)]
pub(crate) struct Probes {
    last: Arc<Mutex<Last>>,
}

/// A report, and when it was made.
type Last = Option<(Instant, Arc<Report>)>;

impl Probes {
    /// A report that is a few seconds old at most. Who comes while one is made waits for it.
    pub(crate) async fn report(&self, context: &Context) -> Arc<Report> {
        let last = self.last.clone().lock_owned().await;
        if let Some((at, report)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        // In a task of its own: a look whose client goes away would be begun again by the next one, at once.
        let looking = tokio::spawn(look_and_note(context.clone(), last).in_current_span());
        looking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "looking at the service's health ended badly");
            Arc::default()
        })
    }
}

async fn look_and_note(context: Context, mut last: OwnedMutexGuard<Last>) -> Arc<Report> {
    let report = Arc::new(look(&context).await);
    *last = Some((Instant::now(), report.clone()));
    report
}

async fn look(context: &Context) -> Report {
    let stores = join_all(context.stores.all().map(|store| async move {
        // One that has just come back is not believed at once.
        let answers = answers(context, store).await;
        (store.name().to_string(), answers && context.stores.health().is_up(store.name().as_str()))
    }));
    let (database, stores) = tokio::join!(heartbeat(context), stores);
    let stores: BTreeMap<String, bool> = stores.into_iter().collect();
    let locals = context.stores.names_with(StoreRole::Local);
    let local = locals.iter().any(|name| stores.get(*name).copied().unwrap_or(false));
    Report { database: database.is_some(), stores, local, last_heartbeat: database.flatten() }
}

/// The last heartbeat, or none when the database did not answer.
async fn heartbeat(context: &Context) -> Option<Option<DateTime<Utc>>> {
    let asking = async {
        let mut conn = context.db.conn().await?;
        workers::last_heartbeat(&mut conn).await
    };
    let outcome: std::result::Result<Result<_>, _> = tokio::time::timeout(DEADLINE, asking).await;
    match outcome {
        Ok(Ok(at)) => Some(at),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database is not healthy");
            None
        }
        Err(_) => {
            tracing::warn!("the database did not answer a health check in time");
            None
        }
    }
}

/// What is seen here counts as a look like any other.
async fn answers(context: &Context, store: &Store) -> bool {
    match tokio::time::timeout(DEADLINE, health::look_at(context, store)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(store = %store.name(), error, "a store is not healthy");
            false
        }
        Err(_) => {
            tracing::warn!(store = %store.name(), "a store did not answer a health check in time");
            false
        }
    }
}
