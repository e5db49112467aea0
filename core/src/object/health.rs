//! Checks every store now and then, so that [`crate::stores::Health`] knows of an outage before a user does.
//!
//! Each process has its own view, because what one can reach another may not; it is written down for people to see.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::Context;
use crate::db::store_health::{self, Seen};
use crate::error::Result;
use crate::store::Store;

/// The deadline of a check. A slower store is of no use.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many times as often the stores are checked while one is suspect.
const IN_DOUBT: u32 = 5;

/// Checks every store once, all at the same time.
pub async fn look(context: &Context) {
    join_all(context.stores.all().map(|store| look_at(context, store))).await;
}

/// Checks one store.
///
/// # Errors
/// Why it cannot be used, in words. A check that is cancelled counts for nothing.
pub async fn look_at(context: &Context, store: &Store) -> std::result::Result<(), String> {
    let (started, name) = (Instant::now(), store.name().as_str());
    let error = match tokio::time::timeout(DEADLINE, store.check()).await {
        Ok(Ok(())) => {
            context.stores.health().answered(name, context.clock.now(), Some(started.elapsed()));
            return Ok(());
        }
        // A refusal is as bad as silence: nothing can be read or written.
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("store {name} did not answer within {} s", DEADLINE.as_secs()),
    };
    context.stores.health().saw(name, context.clock.now(), false, None, Some(error.clone()));
    Err(error)
}

/// Checks every store again and again, and records the outcome as that of `program` (`api` or `worker`), until `shutdown`.
pub async fn watch(context: Context, program: &'static str, shutdown: CancellationToken) {
    let observer = Uuid::now_v7();
    loop {
        let interval = context.config.health.interval;
        let in_doubt = context.stores.health().is_in_doubt();
        let pause = if in_doubt { interval / IN_DOUBT } else { interval };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            // A store that has just become suspect is checked soon.
            () = context.stores.health().doubted(), if !in_doubt => continue,
        }
        look(&context).await;
        if let Err(error) = write_down(&context, observer, program).await {
            tracing::debug!(%error, "the health of the stores could not be written down");
        }
    }
    let forget = async {
        let mut conn = context.db.conn().await?;
        store_health::forget(&mut conn, observer).await
    };
    if let Err(error) = forget.await {
        tracing::debug!(%error, "what this process saw of the stores goes by itself");
    }
}

async fn write_down(context: &Context, observer: Uuid, program: &str) -> Result<()> {
    let known = context.stores.health().all();
    let seen: Vec<Seen> = known
        .into_iter()
        .map(|(store, health)| Seen {
            store,
            up: health.up,
            since: health.since,
            latency_ms: health.latency.map(|latency| i32::try_from(latency.as_millis()).unwrap_or(i32::MAX)),
            last_error: health.last_error,
        })
        .collect();
    let mut conn = context.db.conn().await?;
    store_health::write(&mut conn, observer, program, &seen).await
}
