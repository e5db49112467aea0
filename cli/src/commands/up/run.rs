//! Runs the API and the worker in this process until their graceful end, and supervises the servers.

use nightferry_api::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commands::{App, Session, service};
use crate::errors::{Exit, Failure};
use crate::signals::StopRequests;
use nightferry_devservers::{Parts, Reporter, Watch};

pub(super) struct Services {
    pub(super) session: Session,
    pub(super) server: Server,
    pub(super) with_worker: bool,
}

/// Runs until it is stopped, or until a required component fails. Then the API shuts down, and after it the worker; a
/// second stop request does not wait for them.
pub(super) async fn until_stopped(
    app: &App,
    services: Services,
    parts: &mut Parts,
    requests: &mut StopRequests,
    reporter: &dyn Reporter,
) -> Result<Exit, Failure> {
    let Services { session, server, with_worker } = services;
    let (api_stop, worker_stop) = (CancellationToken::new(), CancellationToken::new());
    let api_stopped = api_stop.clone();
    let mut api = std::pin::pin!(async { anyhow::Ok(server.run(api_stopped).await?) });
    let mut api_runs = true;
    let engine = session.services.engine.clone();
    let stop = worker_stop.clone();
    let mut worker = with_worker.then(|| tokio::spawn(nightferry_worker::run(engine, stop)));
    let mut watch = Watch::default();

    let failed = tokio::select! {
        () = requests.next() => None,
        ended = &mut api => {
            api_runs = false;
            Some(unexpected("The API", ended))
        }
        ended = worker_ends(&mut worker) => Some(unexpected("The worker", ended)),
        error = watch.until_one_stays_dead(parts, reporter) => Some(Failure::from(error)),
    };

    app.output.note("Stopping: work in flight may finish. Press Ctrl-C again to stop immediately.");
    let drain = async {
        api_stop.cancel();
        let api_end = if api_runs { api.await } else { Ok(()) };
        worker_stop.cancel();
        let worker_end = if worker.is_some() { worker_ends(&mut worker).await } else { Ok(()) };
        api_end.and(worker_end)
    };
    let drained = tokio::select! {
        drained = drain => Some(drained),
        () = requests.next() => None,
    };
    if let Some(worker) = worker {
        worker.abort();
    }
    match (failed, drained) {
        (Some(failure), _) => Err(failure),
        (None, Some(Ok(()))) => Ok(Exit::Ok),
        (None, Some(Err(error))) => Err(service::failed("stopping gracefully", &error)),
        (None, None) => Ok(Exit::Interrupted),
    }
}

/// Completes when the worker ends; never, if there is none. Leaves no task behind.
async fn worker_ends(worker: &mut Option<JoinHandle<anyhow::Result<()>>>) -> anyhow::Result<()> {
    let Some(running) = worker else { return std::future::pending().await };
    let ended = running.await;
    *worker = None;
    ended.unwrap_or_else(|error| Err(error.into()))
}

fn unexpected(name: &str, ended: anyhow::Result<()>) -> Failure {
    match ended {
        Ok(()) => Failure::new(Exit::Failed, "service", format!("{name} ended unexpectedly")),
        Err(error) => service::failed(name, &error),
    }
}
