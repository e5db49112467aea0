//! Prometheus metrics: requests, and the state of replicas, runs and workers in the database.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use nightferry_core::catalog;
use nightferry_core::context::Context;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::{drains, passes, replicas, runs, signed, workers};
use nightferry_core::error::Result;
use nightferry_core::tiering::forecast;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::Instrument as _;

/// The minimum time for which counts from the database are reused.
const CACHE_TTL: Duration = Duration::from_secs(15);
/// Counting replicas reads the whole table: the interval is at least this multiple of the duration.
const SHARE: u32 = 20;
/// The deadline of the counting queries.
const DEADLINE: Duration = Duration::from_secs(10);
/// The number of missed heartbeats after which a worker is not counted as up.
const HEARTBEATS: u32 = 6;
/// Upper bounds of the duration histogram, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// The counters and their descriptions.
const COUNTERS: [(&str, &str); 8] = [
    ("http_requests_total", "Requests by method, route and status."),
    ("nightferry_uploads_total", "Uploads through the API, by outcome."),
    ("nightferry_upload_bytes_total", "Bytes of acknowledged uploads through the API."),
    ("nightferry_download_bytes_total", "Bytes sent to downloading clients."),
    ("nightferry_catalog_snapshots_total", "Catalogue snapshots by outcome: written, failed, interrupted."),
    ("nightferry_logins_total", "Sign-ins by outcome: ok, failed, refused without a check."),
    ("nightferry_rate_limited_total", "Requests rejected by rate limits, by kind."),
    ("nightferry_limits_fallback_total", "Requests counted in memory because Redis was unavailable."),
];
/// The gauges and their descriptions.
const GAUGES: [(&str, &str); 24] = [
    ("nightferry_replicas", "Replicas by store and state."),
    ("nightferry_replica_bytes", "Bytes of replicas by store and state."),
    (
        "nightferry_replicas_suspect",
        "Lost replicas that a pass only reported, by store: they are not repaired yet.",
    ),
    ("nightferry_objects_lost", "Objects with a lost copy and no verified one."),
    ("nightferry_pass_finished_seconds", "Time of the end of the last completed pass, by pass; Unix time."),
    ("nightferry_pass_findings", "Findings of the last completed pass, by pass and kind."),
    ("nightferry_pass_bytes", "Bytes listed or read by the last completed pass, by pass."),
    (
        "nightferry_catalog_snapshot_seconds",
        "Time of the content of the last catalogue snapshot; Unix time, 0 if there is none.",
    ),
    ("nightferry_runs", "Runs by status."),
    ("nightferry_workers_up", "Workers with a recent heartbeat."),
    (
        "nightferry_workers_clock_wrong",
        "Of those, the ones whose clock differs from that of the database by more than a minute.",
    ),
    (
        "nightferry_clock_ahead_seconds",
        "How far the clock of this machine is ahead of that of the database; negative: behind.",
    ),
    ("nightferry_store_waiting_workers", "Workers waiting for a store, by store."),
    ("nightferry_store_up", "Whether a store is healthy for this process, by store and role."),
    (
        "nightferry_store_identity_ok",
        "0 if a store may not be the one that the database knows, for this process, by store and role.",
    ),
    (
        "nightferry_store_evidence_requests",
        "Further requests that verify an upload to a store by this process; -1 while that is not known.",
    ),
    ("nightferry_store_draining", "Whether a store is being drained or is drained."),
    ("nightferry_store_latency_seconds", "Latency of the last health check of a store by this process."),
    ("nightferry_store_capacity_bytes", "Capacity of a store; 0 if unlimited."),
    (
        "nightferry_backlog_seconds",
        "Estimated remaining seconds of the active run, at the rate of recent runs.",
    ),
    ("nightferry_backlog_exceeds_window", "Whether that is longer than the transfer window."),
    ("nightferry_limits_redis_up", "Whether requests are counted in limits.redis_url."),
    ("nightferry_database_up", "Whether the database was reachable at the last count."),
    ("process_resident_memory_bytes", "Resident memory of this process."),
];

/// One recorder per process, for any number of servers: a recorder can be installed only once.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The metrics of this process.
pub(crate) struct Metrics {
    handle: Option<PrometheusHandle>,
    /// When the cached counts expire.
    stale: Arc<Mutex<Option<Instant>>>,
}

impl Metrics {
    /// Installs the recorder unless one is installed. If the embedding program has its own recorder, metrics go there,
    /// and this service exposes none.
    pub(crate) fn of_process() -> Self {
        let handle = RECORDER.get_or_init(|| {
            install().inspect_err(|error| tracing::warn!(%error, "metrics are not available")).ok()
        });
        Self { handle: handle.clone(), stale: Arc::default() }
    }

    /// All metrics in Prometheus's text format.
    pub(crate) async fn render(&self, context: &Context) -> String {
        self.count(context).await;
        if let Some(bytes) = resident_bytes() {
            gauge!("process_resident_memory_bytes").set(float(bytes));
        }
        let Some(handle) = &self.handle else { return String::new() };
        handle.run_upkeep();
        handle.render()
    }

    /// Counts in the database, at a limited rate and never concurrently.
    async fn count(&self, context: &Context) {
        let stale = self.stale.clone().lock_owned().await;
        if stale.is_some_and(|at| Instant::now() < at) {
            return;
        }
        // In a separate task: if the client of a request disconnects, the database would not stop counting, and the
        // next request would start a second count.
        let counting = tokio::spawn(count_and_note(context.clone(), stale).in_current_span());
        if let Err(error) = counting.await {
            tracing::error!(%error, "the task that counts for the metrics failed");
        }
    }
}

/// Counts, and records how long the result is valid.
async fn count_and_note(context: Context, mut stale: OwnedMutexGuard<Option<Instant>>) {
    let began = Instant::now();
    let outcome = tokio::time::timeout(DEADLINE, count(&context)).await;
    let up = matches!(outcome, Ok(Ok(())));
    if let Ok(Err(error)) = outcome {
        tracing::warn!(%error, "cannot query the database for the metrics");
    }
    gauge!("nightferry_database_up").set(switch(up));
    *stale = Some(Instant::now() + CACHE_TTL.max(began.elapsed().saturating_mul(SHARE)));
}

fn install() -> std::result::Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("http_request_duration_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;
    for (name, description) in COUNTERS {
        describe_counter!(name, description);
    }
    for (name, description) in GAUGES {
        describe_gauge!(name, description);
    }
    let duration = "Time until the response body started, by method and route.";
    describe_histogram!("http_request_duration_seconds", duration);
    Ok(handle)
}

async fn count(context: &Context) -> Result<()> {
    let mut conn = context.db.conn().await?;
    let counts = replicas::count_by_state(&mut conn).await?;
    let by_status = runs::count_by_status(&mut conn).await?;
    let workers = workers::all(&mut conn).await?;
    gauge!("nightferry_objects_lost").set(float(replicas::objects_lost(&mut conn).await?));
    let made = passes::all(&mut conn).await?;
    passes(&made);
    let snapshot = made.iter().find_map(catalog::Report::of_pass).and_then(|report| report.snapshot);
    let taken_at = snapshot.map_or(0, |snapshot| snapshot.taken_at.timestamp());
    gauge!("nightferry_catalog_snapshot_seconds").set(float(taken_at));
    // A state without replicas must be reported as zero.
    for store in context.stores.all() {
        for state in ReplicaState::ALL {
            let found = counts.iter().find(|row| row.store == store.name().as_str() && row.state == *state);
            let labels = [("store", store.name().to_string()), ("state", state.to_string())];
            gauge!("nightferry_replicas", &labels).set(float(found.map_or(0, |row| row.replicas)));
            gauge!("nightferry_replica_bytes", &labels).set(float(found.map_or(0, |row| row.bytes)));
        }
    }
    for store in context.stores.all() {
        let name = store.name().as_str();
        let suspects: i64 = counts.iter().filter(|row| row.store == name).map(|row| row.suspects).sum();
        gauge!("nightferry_replicas_suspect", "store" => name.to_owned()).set(float(suspects));
    }
    for status in RunStatus::ALL {
        let runs = by_status.iter().find(|(found, _)| found == status).map_or(0, |(_, runs)| *runs);
        gauge!("nightferry_runs", "status" => status.as_str()).set(float(runs));
    }
    let silence = context.config.tiering.heartbeat * HEARTBEATS;
    let alive = |worker: &&workers::Worker| {
        (context.clock.now() - worker.heartbeat_at).to_std().unwrap_or_default() <= silence
    };
    let alive: Vec<_> = workers.iter().filter(alive).collect();
    gauge!("nightferry_workers_up").set(float(counted(alive.len())));
    let wrong = alive.iter().filter(|worker| worker.wrong_clock().is_some()).count();
    gauge!("nightferry_workers_clock_wrong").set(float(counted(wrong)));
    gauge!("nightferry_clock_ahead_seconds").set(context.clock.ahead().as_seconds_f64());
    for store in context.stores.all() {
        let name = store.name().as_str();
        let waiting = alive.iter().filter(|worker| worker.waits_for().contains(&name)).count();
        gauge!("nightferry_store_waiting_workers", "store" => name.to_owned()).set(float(counted(waiting)));
    }
    stores(context, &drains::names(&mut conn).await?);
    let forecast = forecast::of_active(context, &mut conn).await?;
    let needs = forecast.and_then(|forecast| forecast.needs).unwrap_or_default();
    gauge!("nightferry_backlog_seconds").set(needs.as_secs_f64());
    let exceeds = forecast.is_some_and(|forecast| forecast.exceeds_window());
    gauge!("nightferry_backlog_exceeds_window").set(switch(exceeds));
    Ok(())
}

/// The health of the stores as seen by this process, and which of them are being drained.
fn stores(context: &Context, draining: &[String]) {
    for store in context.stores.all() {
        let name = store.name().as_str();
        let labels = [("store", name.to_owned()), ("role", store.role().to_string())];
        gauge!("nightferry_store_up", &labels).set(switch(context.stores.health().is_up(name)));
        let in_doubt = context.stores.health().identities().is_in_doubt(name);
        gauge!("nightferry_store_identity_ok", &labels).set(switch(!in_doubt));
        let requests = store.canary().map_or(-1, |canary| i64::from(canary.worst().requests()));
        gauge!("nightferry_store_evidence_requests", &labels).set(float(requests));
        gauge!("nightferry_store_draining", &labels).set(switch(draining.iter().any(|it| it == name)));
        let latency = context.stores.health().of(name).and_then(|health| health.latency).unwrap_or_default();
        gauge!("nightferry_store_latency_seconds", &labels).set(latency.as_secs_f64());
        let capacity = context.config.capacity_of(name).map_or(0, signed);
        gauge!("nightferry_store_capacity_bytes", &labels).set(float(capacity));
    }
}

/// The results of the last complete reconcile and scrub passes, and of the last snapshot.
fn passes(passes: &[passes::Pass]) {
    for pass in passes {
        let Some(at) = pass.finished_at else { continue };
        let name = pass.name.clone();
        gauge!("nightferry_pass_finished_seconds", "pass" => name.clone()).set(float(at.timestamp()));
        let number = |value: &serde_json::Value| float(value.as_i64().unwrap_or(0));
        if let Some(bytes) = pass.report.get("bytes") {
            gauge!("nightferry_pass_bytes", "pass" => name.clone()).set(number(bytes));
        }
        let findings = pass.report.get("findings").and_then(serde_json::Value::as_object);
        for (kind, tally) in findings.into_iter().flatten() {
            let found = tally.get("found").map_or(0.0, number);
            let labels = [("pass", name.clone()), ("kind", kind.clone())];
            gauge!("nightferry_pass_findings", &labels).set(found);
        }
    }
}

fn switch(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn counted(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Counts a request.
pub(crate) fn request(method: &Method, route: &'static str, status: StatusCode, took: Duration) {
    let method = match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    };
    counter!("http_requests_total", "method" => method, "route" => route, "status" => status.as_str().to_owned())
        .increment(1);
    histogram!("http_request_duration_seconds", "method" => method, "route" => route).record(took);
}

/// Counts an acknowledged upload with its size, or a failed one.
pub(crate) fn upload(acknowledged: Option<u64>) {
    let outcome = if acknowledged.is_some() { "acknowledged" } else { "failed" };
    counter!("nightferry_uploads_total", "outcome" => outcome).increment(1);
    counter!("nightferry_upload_bytes_total").increment(acknowledged.unwrap_or(0));
}

/// Counts bytes sent.
pub(crate) fn downloaded(bytes: u64) {
    counter!("nightferry_download_bytes_total").increment(bytes);
}

/// Resident memory of this process; available on Linux.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

/// Gauges are floating point; values beyond 2^53 lose precision.
#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "there is no other conversion")]
fn float(value: i64) -> f64 {
    value as f64
}
