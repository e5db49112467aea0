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
use nightferry_core::store::Store;
use tokio::sync::Mutex;

/// How long each check may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long an outcome is given out again.
const FRESH: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// Whether the database answers.
    pub(crate) database: bool,
    /// Whether each store answers, by name.
    pub(crate) stores: BTreeMap<String, bool>,
    /// Whether the store that uploads go to answers.
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
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

impl Probes {
    /// A report that is a few seconds old at most. Who comes while one is made waits for it.
    pub(crate) async fn report(&self, context: &Context) -> Arc<Report> {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let report = Arc::new(look(context).await);
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

async fn look(context: &Context) -> Report {
    let stores = join_all(
        context.stores.all().map(|store| async move { (store.name().to_string(), answers(store).await) }),
    );
    let (database, stores) = tokio::join!(heartbeat(context), stores);
    let stores: BTreeMap<String, bool> = stores.into_iter().collect();
    let local =
        context.stores.local().is_ok_and(|store| stores.get(store.name().as_str()).copied().unwrap_or(false));
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

async fn answers(store: &Store) -> bool {
    match tokio::time::timeout(DEADLINE, store.check()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(store = %store.name(), %error, "a store is not healthy");
            false
        }
        Err(_) => {
            tracing::warn!(store = %store.name(), "a store did not answer a health check in time");
            false
        }
    }
}
