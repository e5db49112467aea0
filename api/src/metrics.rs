//! Prometheus metrics: what requests come to, and what the database says about replicas, runs and workers.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix_web::http::{Method, StatusCode};
use chrono::Utc;
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

/// How long what the database said is given out again at least.
const FRESH: Duration = Duration::from_secs(15);
/// Counting replicas reads their whole table: it may take the database this share of the time, one part in so many.
const SHARE: u32 = 20;
/// How long the database may take to count.
const DEADLINE: Duration = Duration::from_secs(10);
/// A worker silent for so many heartbeats is not counted as up.
const HEARTBEATS: u32 = 6;
/// Upper bounds of the duration histogram, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// One recorder for the process, however many servers live in it. The recorder can be installed once only.
static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The metrics of this process.
pub(crate) struct Metrics {
    handle: Option<PrometheusHandle>,
    /// When what is given out is too old.
    stale: Arc<Mutex<Option<Instant>>>,
}

impl Metrics {
    /// Installs the recorder when nobody has. Where the program around has one of its own, metrics go there, and
    /// this service shows none.
    pub(crate) fn of_process() -> Self {
        let handle = RECORDER.get_or_init(|| {
            install().inspect_err(|error| tracing::warn!(%error, "metrics are not available")).ok()
        });
        Self { handle: handle.clone(), stale: Arc::default() }
    }

    /// Everything, as Prometheus reads it.
    pub(crate) async fn render(&self, context: &Context) -> String {
        self.count(context).await;
        if let Some(bytes) = resident_bytes() {
            gauge!("process_resident_memory_bytes").set(float(bytes));
        }
        self.handle
            .as_ref()
            .map(|handle| {
                handle.run_upkeep();
                handle.render()
            })
            .unwrap_or_default()
    }

    /// Asks the database, at most every now and then and never twice at once.
    async fn count(&self, context: &Context) {
        let stale = self.stale.clone().lock_owned().await;
        if stale.is_some_and(|at| Instant::now() < at) {
            return;
        }
        // In a task of its own: with a request whose client goes away the database would not stop to count, and the next
        // one would let it count once more at the same time.
        let counting = tokio::spawn(count_and_note(context.clone(), stale).in_current_span());
        if let Err(error) = counting.await {
            tracing::error!(%error, "counting for the metrics ended badly");
        }
    }
}

/// Counts, and notes until when that is enough.
async fn count_and_note(context: Context, mut stale: OwnedMutexGuard<Option<Instant>>) {
    let began = Instant::now();
    let outcome = tokio::time::timeout(DEADLINE, count(&context)).await;
    let up = matches!(outcome, Ok(Ok(())));
    if let Ok(Err(error)) = outcome {
        tracing::warn!(%error, "the database could not be counted for the metrics");
    }
    gauge!("nightferry_database_up").set(if up { 1.0 } else { 0.0 });
    *stale = Some(Instant::now() + FRESH.max(began.elapsed().saturating_mul(SHARE)));
}

fn install() -> std::result::Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("http_request_duration_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;
    describe_counter!("http_requests_total", "Requests answered, by method, route and status.");
    describe_histogram!(
        "http_request_duration_seconds",
        "Time until the answer's body began, by method and route."
    );
    describe_counter!("nightferry_uploads_total", "Uploads through the API, by outcome.");
    describe_counter!("nightferry_upload_bytes_total", "Bytes of acknowledged uploads through the API.");
    describe_counter!("nightferry_download_bytes_total", "Bytes sent to downloading clients.");
    describe_gauge!("nightferry_replicas", "Replicas by store and state.");
    describe_gauge!("nightferry_replica_bytes", "Bytes of replicas by store and state.");
    describe_gauge!(
        "nightferry_objects_lost",
        "Objects that have lost a copy and have no verified one left."
    );
    describe_gauge!(
        "nightferry_pass_finished_seconds",
        "When the last complete pass ended, by pass; Unix time."
    );
    describe_gauge!("nightferry_pass_findings", "What the last complete pass found, by pass and kind.");
    describe_gauge!("nightferry_pass_bytes", "Bytes that the last complete pass listed or read, by pass.");
    describe_gauge!(
        "nightferry_catalog_snapshot_seconds",
        "The moment that the last snapshot of the catalogue shows; Unix time, 0 when there is none."
    );
    describe_counter!(
        "nightferry_catalog_snapshots_total",
        "Snapshots of the catalogue by outcome: written, failed, interrupted."
    );
    describe_gauge!("nightferry_runs", "Runs by status.");
    describe_gauge!("nightferry_workers_up", "Workers with a recent heartbeat.");
    describe_gauge!("nightferry_store_breaker_open", "Workers that wait for a store to come back, by store.");
    describe_gauge!("nightferry_store_up", "Whether this process counts a store as up, by store and role.");
    describe_gauge!(
        "nightferry_store_draining",
        "Whether a store is being emptied, or is empty and stays so."
    );
    describe_gauge!(
        "nightferry_store_latency_seconds",
        "How long a store's last answer to this process took."
    );
    describe_gauge!("nightferry_store_capacity_bytes", "What a store may hold; 0 when that is not limited.");
    describe_gauge!(
        "nightferry_backlog_seconds",
        "Seconds that the active run still needs at the rate of recent runs."
    );
    describe_gauge!(
        "nightferry_backlog_exceeds_window",
        "Whether that is longer than the transfer window is open."
    );
    describe_counter!("nightferry_logins_total", "Sign-ins by outcome: ok, failed, refused without a look.");
    describe_counter!("nightferry_rate_limited_total", "Requests refused because of limits, by kind.");
    describe_gauge!("nightferry_limits_redis_up", "Whether requests are counted in limits.redis_url.");
    describe_counter!(
        "nightferry_limits_fallback_total",
        "Requests counted in memory because Redis was away."
    );
    describe_gauge!("nightferry_database_up", "Whether the database answered the last count.");
    describe_gauge!("process_resident_memory_bytes", "Resident memory of this process.");
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
    // A state that nothing is in any more must be told too.
    for store in context.stores.all() {
        for state in ReplicaState::ALL {
            let found = counts.iter().find(|row| row.store == store.name().as_str() && row.state == *state);
            let labels = [("store", store.name().to_string()), ("state", state.to_string())];
            gauge!("nightferry_replicas", &labels).set(float(found.map_or(0, |row| row.replicas)));
            gauge!("nightferry_replica_bytes", &labels).set(float(found.map_or(0, |row| row.bytes)));
        }
    }
    for status in RunStatus::ALL {
        let runs = by_status.iter().find(|(found, _)| found == status).map_or(0, |(_, runs)| *runs);
        gauge!("nightferry_runs", "status" => status.as_str()).set(float(runs));
    }
    let silence = context.config.tiering.heartbeat * HEARTBEATS;
    let alive = |worker: &&workers::Worker| {
        (Utc::now() - worker.heartbeat_at).to_std().is_ok_and(|age| age <= silence)
    };
    let alive: Vec<_> = workers.iter().filter(alive).collect();
    gauge!("nightferry_workers_up").set(float(counted(alive.len())));
    for store in context.stores.all() {
        let name = store.name().as_str();
        let waiting = alive.iter().filter(|worker| worker.waits_for().contains(&name)).count();
        gauge!("nightferry_store_breaker_open", "store" => name.to_owned()).set(float(counted(waiting)));
    }
    stores(context, &drains::names(&mut conn).await?);
    let forecast = forecast::of_active(context, &mut conn).await?;
    let needs = forecast.and_then(|forecast| forecast.needs).unwrap_or_default();
    gauge!("nightferry_backlog_seconds").set(needs.as_secs_f64());
    let exceeds = forecast.is_some_and(|forecast| forecast.exceeds_window());
    gauge!("nightferry_backlog_exceeds_window").set(if exceeds { 1.0 } else { 0.0 });
    Ok(())
}

/// How this process sees the stores, and which of them are being emptied.
fn stores(context: &Context, draining: &[String]) {
    for store in context.stores.all() {
        let name = store.name().as_str();
        let labels = [("store", name.to_owned()), ("role", store.role().to_string())];
        let switch = |on: bool| if on { 1.0 } else { 0.0 };
        gauge!("nightferry_store_up", &labels).set(switch(context.stores.health().is_up(name)));
        gauge!("nightferry_store_draining", &labels).set(switch(draining.iter().any(|it| it == name)));
        let latency = context.stores.health().of(name).and_then(|health| health.latency).unwrap_or_default();
        gauge!("nightferry_store_latency_seconds", &labels).set(latency.as_secs_f64());
        let capacity = context.config.capacity_of(name).map_or(0, signed);
        gauge!("nightferry_store_capacity_bytes", &labels).set(float(capacity));
    }
}

/// What the last complete passes of reconcile and scrub, and the last snapshot, said.
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

/// Counts an upload that was acknowledged, with its size, or one that failed.
pub(crate) fn upload(acknowledged: Option<u64>) {
    let outcome = if acknowledged.is_some() { "acknowledged" } else { "failed" };
    counter!("nightferry_uploads_total", "outcome" => outcome).increment(1);
    counter!("nightferry_upload_bytes_total").increment(acknowledged.unwrap_or(0));
}

/// Counts bytes sent.
pub(crate) fn downloaded(bytes: u64) {
    counter!("nightferry_download_bytes_total").increment(bytes);
}

/// Of this process; Linux tells it.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

/// Gauges are floating point; what is beyond 2^53 loses its last digits there.
#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "there is no other conversion")]
fn float(value: i64) -> f64 {
    value as f64
}
