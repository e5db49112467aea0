//! Shared by the long-running commands: requests to stop, and the check of the stores at start.

use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use nightferry_api::ServerError;
use nightferry_core::context::Context;
use nightferry_core::object::{empty_catalogue, identity};
use nightferry_core::store::{Store, StoreError};
use nightferry_core::telemetry::Role;
use tokio_util::sync::CancellationToken;

use super::{App, Session, migrate};
use crate::errors::{Exit, Failure};
use crate::signals::StopRequests;

/// Deadline for checking all stores at start. Slower stores only cause a warning.
const STORES_DEADLINE: Duration = Duration::from_secs(20);

/// Runs a service until it ends or is stopped. The first stop request cancels `shutdown` and waits for the service to
/// end; the second one returns immediately.
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
            tracing::info!("{name} is stopping: work in flight may finish; a second signal terminates it \
                immediately");
            shutdown.cancel();
            tokio::select! {
                ended = &mut service => ended,
                () = requests.next() => {
                    tracing::warn!("{name} received a second signal and terminates immediately");
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

/// Runs a step before a service starts, unless a request to stop arrives first.
pub(super) async fn unless_stopped<T>(
    requests: &mut StopRequests,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = step => done,
        () = requests.next() => Err(stopped()),
    }
}

/// A service that was stopped before it had started.
pub(super) fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted", "Stopped").because(
        "a signal arrived before it had \
        started",
    )
}

/// A service that ended with an error.
pub(super) fn failed(name: &str, error: &anyhow::Error) -> Failure {
    Failure::new(Exit::Failed, "service", format!("{name} failed")).because(format!("{error:#}"))
}

/// The address of the API is not available.
pub(super) fn cannot_listen(error: &ServerError, command: &str) -> Failure {
    let taken =
        matches!(error, ServerError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
    let exit = if taken { Exit::Conflict } else { Exit::Failed };
    Failure::new(exit, "listen", "Cannot serve the API").because(error).advise_command(
        "stop the program that uses the port, or choose another one",
        format!("{command} --port PORT"),
    )
}

/// Prepares a service: its configuration, the tables if `apply_migrations`, and the stores.
pub(super) async fn start(
    app: &App,
    overrides: Vec<(String, String)>,
    role: Role,
    apply_migrations: bool,
) -> Result<(Session, StopRequests), Failure> {
    let mut requests = StopRequests::listen()?;
    let session = Session::new(app.config(overrides)?, role)?;
    let context = &session.services.context;
    migrate::require_current(app, context, apply_migrations, &mut requests).await?;
    unless_stopped(&mut requests, async {
        check_stores(context).await;
        check_identities(context, role).await?;
        check_catalogue(context).await;
        Ok(())
    })
    .await?;
    Ok((session, requests))
}

/// Creates missing buckets if configured, and warns about stores that cannot be used now. Neither prevents a service
/// from starting, because stores can recover.
async fn check_stores(context: &Context) {
    let checks = context.stores.all().map(async |store| {
        let config = context.config.stores.get(store.name().as_str());
        let create = config.is_some_and(|config| config.create_bucket);
        match tokio::time::timeout(STORES_DEADLINE, prepare(store, create)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                context.stores.health().failed(&error, context.clock.now());
                tracing::warn!("a store is currently unusable: {error}");
            }
            Err(_) => tracing::warn!("store {} does not respond", store.name()),
        }
    });
    join_all(checks).await;
}

async fn prepare(store: &Store, create_bucket: bool) -> Result<(), StoreError> {
    if create_bucket { store.ensure_bucket().await } else { store.check().await }
}

/// Reports a database without objects beside stores that contain objects. Nothing is deleted then, but requests are
/// served.
pub(super) async fn check_catalogue(context: &Context) {
    if let Err(error) = empty_catalogue::check(context).await {
        tracing::warn!(%error, "cannot check whether the database contains objects");
    }
}

/// Checks the identities of the stores that respond. No worker starts with two stores in one bucket; the API does, because
/// it deletes nothing, and what is there stays available. Any other doubt is logged and prevents deletions.
pub(super) async fn check_identities(context: &Context, role: Role) -> Result<(), Failure> {
    identity::check_all(context).await;
    identity::warn_of_versions(context).await;
    let Some((name, other)) = identity::sharing_a_bucket(context) else { return Ok(()) };
    if matches!(role, Role::Api) {
        tracing::error!(
            "the stores {other} and {name} have the same bucket: no worker starts, and nothing is copied"
        );
        return Ok(());
    }
    Err(shared_bucket("Cannot start", &name, &other))
}

/// Checks the identities of the stores, and refuses `act` if two of them have one bucket.
pub(super) async fn require_distinct(context: &Context, act: &str) -> Result<(), Failure> {
    // Boxed: the future is large.
    Box::pin(identity::check_all(context)).await;
    match identity::sharing_a_bucket(context) {
        Some((name, other)) => Err(shared_bucket(act, &name, &other)),
        None => Ok(()),
    }
}

fn shared_bucket(act: &str, name: &str, other: &str) -> Failure {
    Failure::new(Exit::Usage, "shared_bucket", act)
        .because(format!("the stores {other} and {name} have the same bucket"))
        .advise(format!("correct the endpoint or the bucket of one of them: stores.{name}"))
        .advise_command("check all stores", "store check")
}
