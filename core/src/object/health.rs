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

/// How long a look may take. A store that is slower than that serves nobody.
const DEADLINE: Duration = Duration::from_secs(5);
/// A store in doubt is looked at so many times as often.
const IN_DOUBT: u32 = 5;

/// Looks once at every store, all at the same time.
pub async fn look(context: &Context) {
    join_all(context.stores.all().map(|store| look_at(context, store))).await;
}

/// Looks once at a store.
///
/// # Errors
/// Why it cannot be used, in words. Whoever breaks this off has not looked.
pub async fn look_at(context: &Context, store: &Store) -> std::result::Result<(), String> {
    let (started, name) = (Instant::now(), store.name().as_str());
    let error = match tokio::time::timeout(DEADLINE, store.check()).await {
        Ok(Ok(())) => {
            context.stores.health().answered(name, context.clock.now(), Some(started.elapsed()));
            return Ok(());
        }
        // Whoever cannot use it cannot serve from it: a refusal is as bad as silence.
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("store {name} did not answer within {} s", DEADLINE.as_secs()),
    };
    context.stores.health().saw(name, context.clock.now(), false, None, Some(error.clone()));
    Err(error)
}

/// Looks at every store again and again, and writes down what it sees as `program` (`api` or `worker`), until `shutdown`.
pub async fn watch(context: Context, program: &'static str, shutdown: CancellationToken) {
    let observer = Uuid::now_v7();
    loop {
        let interval = context.config.health.interval;
        let in_doubt = context.stores.health().is_in_doubt();
        let pause = if in_doubt { interval / IN_DOUBT } else { interval };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
            // What has just come into doubt is looked at soon.
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
