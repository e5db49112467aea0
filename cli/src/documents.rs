//! The documents of `--json`: stable names in `snake_case`, exact bytes, times in RFC 3339. They follow the wire types of
//! the HTTP API where both show the same thing. Adding a field is fine; renaming one breaks people's scripts.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nightferry_core::config::{FreeLocalAfter, Problem};
use nightferry_core::db::drains::Drain;
use nightferry_core::db::plans::Item;
use nightferry_core::db::replicas::{Replica, StateCount};
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::db::runs::Run;
use nightferry_core::db::unsigned;
use nightferry_core::db::users::User;
use nightferry_core::db::workers::Worker;
use nightferry_core::tiering::catalog::{Counts, Rebuilt, Report, Snapshot};
use nightferry_core::tiering::drain::Draining;
use nightferry_core::tiering::forecast::Forecast;
use nightferry_core::tiering::money::Money;
use nightferry_core::tiering::plan::{Part, PlanView};
use nightferry_core::tiering::run::RunView;
use nightferry_core::tiering::stores::StoreView;
use serde::Serialize;

use crate::errors::{Failure, Next};

/// What a failed command prints.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    kind: &'static str,
    exit_code: u8,
    message: &'a str,
    reason: Option<&'a str>,
    next: Vec<NextDocument<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<ProblemDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct NextDocument<'a> {
    text: &'a str,
    command: Option<String>,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemDocument<'a> {
    key: &'a str,
    source: &'a str,
    message: &'a str,
    fix: &'a str,
}

impl<'a> ErrorDocument<'a> {
    pub(crate) fn of(failure: &'a Failure, invocation: &str) -> Self {
        let next = |next: &'a Next| NextDocument {
            text: &next.text,
            command: next.command.as_ref().map(|command| format!("{invocation} {command}")),
        };
        Self {
            error: ErrorBody {
                kind: failure.kind,
                exit_code: failure.exit.number(),
                message: &failure.what,
                reason: failure.why.as_deref(),
                next: failure.next.iter().map(next).collect(),
                problems: failure.problems.iter().map(ProblemDocument::of).collect(),
            },
        }
    }
}

impl<'a> ProblemDocument<'a> {
    pub(crate) fn of(problem: &'a Problem) -> Self {
        Self { key: &problem.key, source: &problem.source, message: &problem.message, fix: &problem.fix }
    }
}

/// An account.
#[derive(Debug, Serialize)]
pub(crate) struct UserDocument {
    id: String,
    email: String,
    name: String,
    role: &'static str,
    disabled_at: Option<DateTime<Utc>>,
    quota_bytes: Option<u64>,
    used_bytes: u64,
    created_at: DateTime<Utc>,
}

impl UserDocument {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            name: user.name.clone(),
            role: user.role.as_str(),
            disabled_at: user.disabled_at,
            quota_bytes: user.quota_bytes.map(unsigned),
            used_bytes: unsigned(user.used_bytes),
            created_at: user.created_at,
        }
    }
}

/// How far the emptying of a store is.
#[derive(Debug, Serialize)]
pub(crate) struct DrainDocument {
    store: String,
    requested_at: DateTime<Utc>,
    replicas_total: u64,
    bytes_total: u64,
    replicas_left: u64,
    bytes_left: u64,
    waits_for: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

impl DrainDocument {
    pub(crate) fn of(draining: &Draining) -> Self {
        Self::new(&draining.drain, unsigned(draining.left.replicas), unsigned(draining.left.bytes))
    }

    fn new(drain: &Drain, replicas_left: u64, bytes_left: u64) -> Self {
        Self {
            store: drain.store.clone(),
            requested_at: drain.requested_at,
            replicas_total: unsigned(drain.replicas_total),
            bytes_total: unsigned(drain.bytes_total),
            replicas_left,
            bytes_left,
            waits_for: drain.waits_for.clone(),
            finished_at: drain.finished_at,
        }
    }
}

/// A store.
#[derive(Debug, Serialize)]
pub(crate) struct StoreDocument {
    name: String,
    role: &'static str,
    main: bool,
    state: &'static str,
    health: StoreHealthDocument,
    capacity_bytes: Option<u64>,
    used_bytes: u64,
    replicas: Vec<StateCountDocument>,
    drain: Option<DrainDocument>,
}

#[derive(Debug, Serialize)]
struct StoreHealthDocument {
    status: &'static str,
    since: Option<DateTime<Utc>>,
    latency_ms: Option<i32>,
    last_error: Option<String>,
    observers: u64,
    observers_down: u64,
}

#[derive(Debug, Serialize)]
struct StateCountDocument {
    state: &'static str,
    replicas: u64,
    bytes: u64,
}

impl StoreDocument {
    pub(crate) fn of(store: &StoreView) -> Self {
        let (replicas_left, bytes_left) = store.left();
        let health = store.health.as_ref();
        let count = |row: &StateCount| StateCountDocument {
            state: row.state.as_str(),
            replicas: unsigned(row.replicas),
            bytes: unsigned(row.bytes),
        };
        Self {
            name: store.name.clone(),
            role: store.role.as_str(),
            main: store.is_main,
            state: store.state(),
            health: StoreHealthDocument {
                status: store.health_word(),
                since: health.and_then(|health| health.since),
                latency_ms: health.and_then(|health| health.latency_ms),
                last_error: health.and_then(|health| health.last_error.clone()),
                observers: health.map_or(0, |health| unsigned(health.observers)),
                observers_down: health.map_or(0, |health| unsigned(health.down)),
            },
            capacity_bytes: store.capacity,
            used_bytes: store.used(),
            replicas: store.states.iter().map(count).collect(),
            drain: store.drain.as_ref().map(|drain| DrainDocument::new(drain, replicas_left, bytes_left)),
        }
    }
}

/// A run, as the API shows it, with what it is limited to.
#[derive(Debug, Serialize)]
pub(crate) struct RunDocument {
    id: String,
    trigger: &'static str,
    requested_by: Option<String>,
    scope: serde_json::Value,
    status: &'static str,
    files_total: u64,
    files_done: u64,
    files_failed: u64,
    bytes_total: u64,
    bytes_done: u64,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    cancel_requested_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    next_batch_at: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl RunDocument {
    pub(crate) fn of(view: &RunView) -> Self {
        Self { next_batch_at: view.next_batch_at, ..Self::of_row(&view.run) }
    }

    pub(crate) fn of_row(run: &Run) -> Self {
        Self {
            id: run.id.to_string(),
            trigger: run.trigger.as_str(),
            requested_by: run.requested_by.map(|user| user.to_string()),
            scope: run.scope.clone(),
            status: run.status.as_str(),
            files_total: unsigned(run.files_total),
            files_done: unsigned(run.files_done),
            files_failed: unsigned(run.files_failed),
            bytes_total: unsigned(run.bytes_total),
            bytes_done: unsigned(run.bytes_done),
            created_at: run.created_at,
            started_at: run.started_at,
            cancel_requested_at: run.cancel_requested_at,
            finished_at: run.finished_at,
            next_batch_at: None,
            error: run.error.clone(),
        }
    }
}

/// An item that a run gave up.
#[derive(Debug, Serialize)]
pub(crate) struct FailureDocument {
    id: String,
    file_id: Option<String>,
    filename: Option<String>,
    object_id: String,
    store: String,
    attempts: i32,
    error: String,
    created_at: DateTime<Utc>,
}

impl FailureDocument {
    pub(crate) fn of(failure: &RunFailure) -> Self {
        Self {
            id: failure.id.to_string(),
            file_id: failure.file_id.map(|file| file.to_string()),
            filename: failure.filename.clone(),
            object_id: failure.object_id.to_string(),
            store: failure.store.clone(),
            attempts: failure.attempts,
            error: failure.error.clone(),
            created_at: failure.created_at,
        }
    }
}

/// A worker process.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerDocument {
    id: String,
    host: String,
    pid: i32,
    version: String,
    state: String,
    up: bool,
    started_at: DateTime<Utc>,
    heartbeat_at: DateTime<Utc>,
    stores_down: Vec<String>,
}

impl WorkerDocument {
    pub(crate) fn of(worker: &Worker, up: bool) -> Self {
        Self {
            id: worker.id.to_string(),
            host: worker.host.clone(),
            pid: worker.pid,
            version: worker.version.clone(),
            state: worker.state.clone(),
            up,
            started_at: worker.started_at,
            heartbeat_at: worker.heartbeat_at,
            stores_down: worker.waits_for().into_iter().map(str::to_owned).collect(),
        }
    }
}

/// How long what is left of the active run takes.
#[derive(Debug, Serialize)]
pub(crate) struct BacklogDocument {
    files: u64,
    bytes: u64,
    needs_seconds: Option<u64>,
    window_seconds: Option<u64>,
    exceeds_window: bool,
}

impl BacklogDocument {
    pub(crate) fn of(forecast: &Forecast) -> Self {
        Self {
            files: forecast.files,
            bytes: forecast.bytes,
            needs_seconds: forecast.needs.map(|time| time.as_secs()),
            window_seconds: forecast.window.map(|time| time.as_secs()),
            exceeds_window: forecast.exceeds_window(),
        }
    }
}

/// How many replicas of a store are in a state.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaCountDocument {
    store: String,
    state: &'static str,
    replicas: u64,
    bytes: u64,
}

impl ReplicaCountDocument {
    pub(crate) fn of(count: &StateCount) -> Self {
        Self {
            store: count.store.clone(),
            state: count.state.as_str(),
            replicas: unsigned(count.replicas),
            bytes: unsigned(count.bytes),
        }
    }
}

/// A replica of a file's current version.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaDocument {
    store: String,
    state: &'static str,
    verified_at: Option<DateTime<Utc>>,
    attempts: i32,
    last_error: Option<String>,
    next_attempt_at: Option<DateTime<Utc>>,
    encryption_key: Option<String>,
}

impl ReplicaDocument {
    pub(crate) fn of(replica: &Replica) -> Self {
        use nightferry_core::db::enums::ReplicaState;
        Self {
            store: replica.store.clone(),
            state: replica.state.as_str(),
            verified_at: replica.verified_at,
            attempts: replica.attempts,
            last_error: replica.last_error.clone(),
            next_attempt_at: (replica.state == ReplicaState::Queued).then_some(replica.not_before),
            encryption_key: replica.key_id.clone(),
        }
    }
}

/// What a run would do.
#[derive(Debug, Serialize)]
pub(crate) struct PlanDocument<'a> {
    id: String,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    files: u64,
    bytes: u64,
    requests: u64,
    seconds: Option<u64>,
    monthly_cost: Option<String>,
    request_cost: Option<String>,
    egress_cost: Option<String>,
    currency: &'a str,
    rules: Vec<PlanRuleDocument<'a>>,
    warnings: &'a [String],
}

/// What a plan copies by one rule into one storage class of one store.
#[derive(Debug, Serialize)]
pub(crate) struct PlanRuleDocument<'a> {
    rule: &'a str,
    store: &'a str,
    storage_class: &'a str,
    files: u64,
    bytes: u64,
    requests: u64,
    monthly_cost: Option<String>,
    request_cost: Option<String>,
    egress_cost: Option<String>,
    free_local_after: String,
}

impl<'a> PlanDocument<'a> {
    pub(crate) fn of(view: &'a PlanView, currency: &'a str) -> Self {
        let sum = |of: fn(&Part) -> Option<Money>| view.sum(of).map(|money| money.to_string());
        Self {
            id: view.plan.id.to_string(),
            created_at: view.plan.created_at,
            expires_at: view.plan.expires_at,
            files: view.files,
            bytes: view.bytes,
            requests: view.requests,
            seconds: view.needs.map(|time| time.as_secs()),
            monthly_cost: sum(|part| part.monthly),
            request_cost: sum(|part| part.requests),
            egress_cost: sum(|part| part.egress),
            currency,
            rules: view.parts.iter().map(PlanRuleDocument::of).collect(),
            warnings: &view.warnings,
        }
    }
}

impl<'a> PlanRuleDocument<'a> {
    fn of(part: &'a Part) -> Self {
        let text = |money: Option<Money>| money.map(|money| money.to_string());
        Self {
            rule: &part.group.rule,
            store: &part.group.store,
            storage_class: &part.class,
            files: unsigned(part.group.files),
            bytes: unsigned(part.group.bytes),
            requests: unsigned(part.group.requests),
            monthly_cost: text(part.monthly),
            request_cost: text(part.requests),
            egress_cost: text(part.egress),
            free_local_after: match part.local {
                FreeLocalAfter::Never => "never".to_owned(),
                FreeLocalAfter::After(time) => format!("{}s", time.as_secs()),
            },
        }
    }
}

/// One copy of a plan.
#[derive(Debug, Serialize)]
pub(crate) struct PlanItemDocument<'a> {
    file_id: Option<String>,
    filename: Option<&'a str>,
    version: Option<i32>,
    object_id: String,
    size: u64,
    rule: &'a str,
    store: &'a str,
    storage_class: Option<&'a str>,
    priority: i16,
}

impl<'a> PlanItemDocument<'a> {
    pub(crate) fn of(item: &'a Item) -> Self {
        Self {
            file_id: item.file_id.map(|file| file.to_string()),
            filename: item.filename.as_deref(),
            version: item.version,
            object_id: item.object_id.to_string(),
            size: unsigned(item.size),
            rule: &item.rule,
            store: &item.store,
            storage_class: item.storage_class.as_deref(),
            priority: item.priority,
        }
    }
}

/// What is known of snapshots of the catalogue.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotStateDocument {
    snapshot: Option<SnapshotDocument>,
    failed: Option<String>,
    failing_since: Option<DateTime<Utc>>,
}

impl SnapshotStateDocument {
    pub(crate) fn of(report: Option<&Report>) -> Self {
        Self {
            snapshot: report.and_then(|report| report.snapshot.as_ref()).map(SnapshotDocument::of),
            failed: report.and_then(|report| report.failed.clone()),
            failing_since: report.and_then(|report| report.failing_since),
        }
    }
}

/// A snapshot that was written.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotDocument {
    store: String,
    key: String,
    taken_at: DateTime<Utc>,
    bytes: u64,
    rows: Counts,
    pruned: usize,
    millis: u64,
}

impl SnapshotDocument {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        Self {
            store: snapshot.store.clone(),
            key: snapshot.key.clone(),
            taken_at: snapshot.taken_at,
            bytes: snapshot.bytes,
            rows: snapshot.rows.clone(),
            pruned: snapshot.pruned,
            millis: millis(snapshot.took),
        }
    }
}

/// What was rebuilt.
#[derive(Debug, Serialize)]
pub(crate) struct RebuiltDocument {
    snapshot: Option<String>,
    taken_at: Option<DateTime<Utc>>,
    restored: Counts,
    listed: BTreeMap<String, u64>,
    looked_at: u64,
    users_made: u64,
    folders_made: u64,
    objects_made: u64,
    files_made: u64,
    versions_made: u64,
    files_renamed: u64,
    copies_found: u64,
    copies_gone: u64,
    copies_lost: u64,
    snapshots_refused: u64,
    objects_unusable: u64,
    objects_left_out: u64,
    millis: u64,
}

impl RebuiltDocument {
    pub(crate) fn of(rebuilt: &Rebuilt) -> Self {
        Self {
            snapshot: rebuilt.snapshot.clone(),
            taken_at: rebuilt.taken_at,
            restored: rebuilt.restored.clone(),
            listed: rebuilt.listed.clone(),
            looked_at: rebuilt.looked,
            users_made: rebuilt.folded.users,
            folders_made: rebuilt.folded.folders,
            objects_made: rebuilt.folded.objects,
            files_made: rebuilt.folded.files,
            versions_made: rebuilt.folded.versions,
            files_renamed: rebuilt.folded.renamed,
            copies_found: rebuilt.settled.found,
            copies_gone: rebuilt.settled.gone,
            copies_lost: rebuilt.settled.lost,
            snapshots_refused: rebuilt.refused,
            objects_unusable: rebuilt.strange,
            objects_left_out: rebuilt.left_out,
            millis: millis(rebuilt.took),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
