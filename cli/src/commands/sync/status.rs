//! `nightferry sync status`: the active run, the backlog, the workers, and the next scheduled run.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nightferry_api_types::catalog::snapshot_state;
use nightferry_api_types::run;
use nightferry_api_types::store::StoreReplicaCount;
use nightferry_core::catalog::{self, Report};
use nightferry_core::context::Context;
use nightferry_core::db::replicas::{self, StateCount};
use nightferry_core::db::unsigned;
use nightferry_core::db::workers::{self, Worker};
use nightferry_core::error::Result as CoreResult;
use nightferry_core::tiering::forecast::{self, Forecast};
use nightferry_core::tiering::run::{RunView, page};
use nightferry_core::tiering::schedule;

use super::App;
use super::follow::is_up;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{pairs, plain, table};
use crate::format::time::{between, span};
use crate::format::{self, bytes, grouped};
use crate::output::{TextStyle, document};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry sync status
  nightferry --json sync status | jq '.replicas[] | select(.state == \"queued\")'";

struct Status {
    now: DateTime<Utc>,
    heartbeat: Duration,
    active: Option<RunView>,
    forecast: Option<Forecast>,
    last: Option<RunView>,
    schedule: String,
    time_zone: String,
    next_run_at: Option<DateTime<Utc>>,
    workers: Vec<Worker>,
    replicas: Vec<StateCount>,
    objects_lost: u64,
    catalog: Option<Report>,
}

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let status = collect_status(context).await.map_err(cannot("read the state of the sync"))?;
    let workers = status.workers.iter().map(|worker| run::worker(worker, status.is_up(worker)));
    let document = document!(
        active_run: status.active.as_ref().map(run::Run::from),
        backlog: status.forecast.as_ref().map(run::backlog),
        last_run: status.last.as_ref().map(run::Run::from),
        schedule: &status.schedule,
        time_zone: &status.time_zone,
        next_run_at: status.next_run_at,
        workers: workers.collect::<Vec<_>>(),
        replicas: status.replicas.iter().map(StoreReplicaCount::from).collect::<Vec<_>>(),
        objects_lost: status.objects_lost,
        catalog: snapshot_state(status.catalog.as_ref()),
    );
    app.output.result(&document, |look| status.text(look))?;
    if !status.workers.iter().any(|worker| status.is_up(worker)) {
        app.output.warning_command("no worker is running, so nothing is synced. Start one", "worker");
    }
    for worker in status.workers.iter().filter(|worker| status.is_up(worker)) {
        if let Some(ahead) = worker.wrong_clock() {
            app.output.warning(&format!(
                "the clock of {} is {}: its worker makes copies, but takes no part in schedules and \
                    cleanup. Set it (NTP)",
                plain(&worker.host),
                off_by(ahead)
            ));
        }
    }
    if status.objects_lost > 0 {
        let lost = format::count(status.objects_lost, "object");
        app.output.warning(&format!(
            "{lost} without a verified copy: missing or corrupt in every store. Nothing is deleted; the \
                log of the worker lists them"
        ));
    }
    let suspects: u64 = status.replicas.iter().map(|count| unsigned(count.suspects)).sum();
    if suspects > 0 {
        app.output.warning_command(
            &format!(
                "suspect copies, found missing or wrong and not repaired yet: {}. To repair them",
                grouped(suspects)
            ),
            "reconcile --apply",
        );
    }
    if let Some(failed) = status.catalog.as_ref().and_then(|report| report.failed.as_ref()) {
        app.output.warning(&format!("the last catalogue snapshot failed: {failed}"));
    }
    Ok(Exit::Ok)
}

async fn collect_status(context: &Context) -> CoreResult<Status> {
    let tiering = &context.config.tiering;
    let (runs, _) = page(context, None, 2).await?;
    let now = context.clock.now();
    let (active, ended): (Vec<_>, Vec<_>) = runs.into_iter().partition(|view| view.run.status.is_active());
    let catalog = catalog::latest_report(context).await?.map(|(report, _)| report);
    let mut conn = context.db.conn().await?;
    Ok(Status {
        catalog,
        now,
        heartbeat: tiering.heartbeat,
        active: active.into_iter().next(),
        forecast: forecast::of_active(context, &mut conn).await?,
        last: ended.into_iter().next(),
        schedule: tiering.schedule.clone(),
        time_zone: tiering.time_zone.to_string(),
        next_run_at: schedule::next_tick(tiering, now)?,
        workers: workers::all(&mut conn).await?,
        replicas: replicas::count_by_state(&mut conn).await?,
        objects_lost: unsigned(replicas::objects_lost(&mut conn).await?),
    })
}

impl Status {
    fn is_up(&self, worker: &Worker) -> bool {
        is_up(Some(worker.heartbeat_at), self.now, self.heartbeat)
    }

    fn text(&self, look: TextStyle) -> String {
        let one = |view: &RunView| {
            let run = &view.run;
            format!("{} {}: {}", run.id, look.state(run.status.as_str()), format::run::progress(run))
        };
        let active = |view: &RunView| match view.window_opens_at {
            Some(at) => {
                let wait = span(between(self.now, at));
                format!(
                    "{}, waiting for the window, which opens at {}, in {wait}",
                    one(view),
                    look.zone.show(at)
                )
            }
            None => one(view),
        };
        let last = self.last.as_ref().map(|view| match view.run.finished_at {
            Some(at) => format!("{}, ended {}", one(view), look.zone.show(at)),
            None => one(view),
        });
        let next = match self.next_run_at {
            Some(at) => format!("{}, in {}", look.zone.show(at), span(between(self.now, at))),
            None => "never: the schedule has no further tick".to_owned(),
        };
        let mut facts =
            vec![("active run", self.active.as_ref().map_or_else(|| "no run is active".to_owned(), active))];
        if let Some(forecast) = &self.forecast {
            facts.push(("remaining", left(forecast)));
        }
        facts.push(("last run", last.unwrap_or_else(|| "no run has ended yet".to_owned())));
        facts.push(("next run", format!("{next} ({}, {})", self.schedule, self.time_zone)));
        facts.push(("lost objects", self.lost()));
        facts.push(("catalogue", self.snapshot(look)));
        let facts = pairs(&facts);
        let tables = [self.workers_table(look), self.replicas_table(look)];
        std::iter::once(facts).chain(tables.into_iter().flatten()).collect::<Vec<_>>().join("\n\n")
    }

    fn lost(&self) -> String {
        match self.objects_lost {
            0 => "none: every object has a verified copy".to_owned(),
            lost => format!("{} without a verified copy", format::count(lost, "object")),
        }
    }

    fn snapshot(&self, look: TextStyle) -> String {
        let snapshot = self.catalog.as_ref().and_then(|report| report.snapshot.as_ref());
        let taken = snapshot.map_or_else(
            || "no snapshot has been written yet".to_owned(),
            |snapshot| {
                let age = span(between(snapshot.taken_at, self.now));
                format!("snapshot of {}, {age} ago", look.zone.show(snapshot.taken_at))
            },
        );
        match self.catalog.as_ref().and_then(|report| report.failing_since) {
            Some(since) => format!("{taken}; {} since {}", look.state("failed"), look.zone.show(since)),
            None => taken,
        }
    }

    fn workers_table(&self, look: TextStyle) -> Option<String> {
        (!self.workers.is_empty()).then(|| {
            table("WORKER | > PID | VERSION | STATE | LAST SEEN", &self.workers, |worker| {
                let silent = span(between(worker.heartbeat_at, self.now));
                let state = if self.is_up(worker) { worker.state.as_str() } else { "lost" };
                let down = worker.waits_for().join(", ");
                let trouble =
                    if down.is_empty() { down } else { format!(", waiting for store {}", plain(&down)) };
                let wrong = worker.wrong_clock().map(|ahead| format!(", its clock is {}", off_by(ahead)));
                [
                    plain(&worker.host),
                    worker.pid.to_string(),
                    plain(&worker.version),
                    look.state(state) + &trouble + &wrong.unwrap_or_default(),
                    format!("{silent} ago"),
                ]
            })
        })
    }

    fn replicas_table(&self, look: TextStyle) -> Option<String> {
        (!self.replicas.is_empty()).then(|| {
            table("STORE | STATE | > OBJECTS | > BYTES", &self.replicas, |count| {
                let suspects = match unsigned(count.suspects) {
                    0 => String::new(),
                    suspects => format!(", {} suspect", grouped(suspects)),
                };
                [
                    count.store.clone(),
                    look.state(count.state.as_str()) + &suspects,
                    grouped(unsigned(count.replicas)),
                    bytes::human(unsigned(count.bytes)),
                ]
            })
        })
    }
}

/// By how much a clock is wrong, as text.
fn off_by(ahead: TimeDelta) -> String {
    let side = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
    format!("{} {side} that of the database", span(ahead.abs().to_std().unwrap_or_default()))
}

/// The estimated remaining time of a run, as text.
fn left(forecast: &Forecast) -> String {
    let what = format!("{}, {}", format::count(forecast.files, "file"), bytes::human(forecast.bytes));
    let Some(needs) = forecast.needs else { return what };
    let needs = format!("{what}: about {} at the rate of recent runs", span(needs));
    match forecast.window {
        Some(window) if forecast.exceeds_window() => {
            format!("{needs}, which does not fit the window ({})", span(window))
        }
        Some(window) => format!("{needs}, which fits the window ({})", span(window)),
        None => needs,
    }
}

#[cfg(test)]
mod tests {
    use nightferry_core::db::enums::ReplicaState;

    use super::*;
    use crate::format::run::tests::partial;
    use crate::format::time::Zone;

    #[test]
    fn the_status_as_text() {
        let last = partial();
        let now = last.finished_at.unwrap() + TimeDelta::hours(2);
        let worker = |host: &str, silent: i64| Worker {
            id: "0199f0a0-0000-7000-8000-000000000005".parse().unwrap(),
            host: host.to_owned(),
            pid: 4711,
            version: "0.1.0".to_owned(),
            state: "idle".to_owned(),
            started_at: now,
            heartbeat_at: now - TimeDelta::seconds(silent),
            stores_down: serde_json::json!([]),
            clock_ahead_ms: 0,
        };
        let replicas = |store: &str, state, replicas, bytes| StateCount {
            store: store.to_owned(),
            state,
            replicas,
            bytes,
            suspects: if state == ReplicaState::Lost { 2 } else { 0 },
        };
        let status = Status {
            now,
            heartbeat: Duration::from_secs(5),
            active: None,
            forecast: None,
            last: Some(RunView::of_row(last)),
            schedule: "0 0 0 * * *".to_owned(),
            time_zone: "UTC".to_owned(),
            next_run_at: Some(now + TimeDelta::hours(22)),
            workers: vec![worker("ferry-1", 2), worker("ferry-2", 400)],
            replicas: vec![
                replicas("minio", ReplicaState::Present, 2_000, 32_768_000),
                replicas("s3", ReplicaState::Failed, 3, 49_152),
                replicas("s3", ReplicaState::Lost, 4, 65_536),
                replicas("s3", ReplicaState::Present, 1_997, 32_718_848),
            ],
            objects_lost: 1,
            catalog: Some(Report {
                failed: Some("store s3 is down".to_owned()),
                failing_since: Some(now),
                ..Report::default()
            }),
        };
        insta::assert_snapshot!(status.text(TextStyle { color: false, zone: Zone::Utc }));
    }

    #[test]
    fn a_wrong_clock_is_described() {
        let days = off_by(TimeDelta::days(2));
        assert!(days.ends_with(" ahead of that of the database"), "{days}");
        let minutes = off_by(TimeDelta::minutes(-65));
        assert!(minutes.ends_with(" behind that of the database"), "{minutes}");
    }

    #[test]
    fn the_backlog_is_reported_with_its_duration_and_whether_it_fits() {
        let forecast = |needs, window| Forecast {
            run: partial().id,
            files: 1200,
            bytes: 3 << 30,
            needs: Some(Duration::from_secs(needs)),
            window,
        };
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(left(&Forecast { needs: None, ..forecast(0, None) }), "1,200 files, 3.0 GiB");
        assert_eq!(left(&forecast(60, None)), "1,200 files, 3.0 GiB: about 1 min at the rate of recent runs");
        assert!(left(&forecast(60, hour)).ends_with(", which fits the window (1 h)"));
        assert!(left(&forecast(7200, hour)).ends_with(", which does not fit the window (1 h)"));
    }
}
