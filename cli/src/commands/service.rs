//! What the long-running commands share: stop requests, and a look at the stores before they begin.

use std::io;
use std::time::Duration;

use nightferry_api::ServerError;
use nightferry_core::context::Context;
use nightferry_core::store::{Store, StoreError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::errors::{Exit, Failure};
use crate::signals::StopRequests;

/// How long all stores together may take to answer at start. One that is slower is only warned about.
const STORES_DEADLINE: Duration = Duration::from_secs(20);

/// Runs a service until it ends or is asked to stop. The first request cancels `shutdown` and waits for its orderly
/// end; the second does not wait.
pub(super) async fn until_stopped(
    service: impl Future<Output = anyhow::Result<()>>,
    shutdown: CancellationToken,
    mut requests: StopRequests,
    name: &str,
) -> Result<Exit, Failure> {
    let mut service = std::pin::pin!(service);
    let ended = tokio::select! {
        ended = &mut service => ended,
        () = requests.next() => {
            tracing::info!("{name} stops: what is in flight may finish; a second signal ends it at once");
            shutdown.cancel();
            tokio::select! {
                ended = &mut service => ended,
                () = requests.next() => {
                    tracing::warn!("{name} was asked to stop again and ends at once");
                    return Ok(Exit::Interrupted);
                }
            }
        }
    };
    match ended {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Err(failed(name, &error)),
    }
}

/// A step before a service begins, unless a request to stop comes first.
pub(super) async fn unless_stopped<T>(
    requests: &mut StopRequests,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = step => done,
        () = requests.next() => Err(stopped()),
    }
}

/// A service that was asked to stop before it had begun.
pub(super) fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted", "Stopped").because("a signal came before it had started")
}

/// A service that ended with an error.
pub(super) fn failed(name: &str, error: &anyhow::Error) -> Failure {
    Failure::new(Exit::Failed, "service", format!("{name} failed")).because(format!("{error:#}"))
}

/// The API's address cannot be had.
pub(super) fn cannot_listen(error: &ServerError, command: &str) -> Failure {
    let taken =
        matches!(error, ServerError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
    let exit = if taken { Exit::Conflict } else { Exit::Failed };
    Failure::new(exit, "listen", "Cannot serve the API").because(error).advise_command(
        "stop the program that has the port, or choose another one",
        format!("{command} --port PORT"),
    )
}

/// Makes missing buckets where the configuration says so, and warns of stores that cannot be used now. None of that
/// keeps a service from starting: stores come back, and what needs one says so itself.
pub(super) async fn prepare_stores(context: &Context, requests: &mut StopRequests) -> Result<(), Failure> {
    unless_stopped(requests, async {
        look_at_stores(context).await;
        Ok(())
    })
    .await
}

async fn look_at_stores(context: &Context) {
    let mut checks = JoinSet::new();
    for store in context.stores.all().cloned() {
        let create =
            context.config.stores.get(store.name().as_str()).is_some_and(|config| config.create_bucket);
        checks.spawn(async move {
            let outcome = tokio::time::timeout(STORES_DEADLINE, prepare(&store, create)).await;
            (store, outcome)
        });
    }
    while let Some(joined) = checks.join_next().await {
        match joined {
            Ok((_, Ok(Ok(())))) => {}
            Ok((_, Ok(Err(error)))) => tracing::warn!("a store cannot be used now: {error}"),
            Ok((store, Err(_))) => tracing::warn!("store {} does not answer", store.name()),
            Err(error) => tracing::warn!(%error, "looking at a store ended badly"),
        }
    }
}

async fn prepare(store: &Store, create_bucket: bool) -> Result<(), StoreError> {
    if create_bucket { store.ensure_bucket().await } else { store.check().await }
}
