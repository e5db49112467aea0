//! The transfer window: transfers in flight when it closes finish, nothing new starts, and the run resumes when it
//! opens again. Time passes by moving the clock.

use chrono::{DateTime, Duration, NaiveTime, Utc};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::{Run, RunScope};
use nightferry_core::db::schedules;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::forecast::{self, Forecast};
use nightferry_core::tiering::run::{self, RunView, Tick};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;

/// Open from midnight to six. The schedule does not tick, and leases are longer than the test.
fn nights() -> WorldBuilder {
    World::with("tiering.window", "00:00-06:00")
        .set("tiering.schedule", "0 0 0 1 1 *")
        .set("tiering.lease", "10m")
}

/// Moves the clock forward to a time of day, UTC.
fn go_to(world: &World, time: &str) {
    let time: NaiveTime = time.parse().unwrap();
    let now = world.context.clock.now();
    let today = now.date_naive().and_time(time).and_utc();
    let then = if today > now { today } else { today + Duration::days(1) };
    world.context.clock.advance(then - now);
}

/// A run as created by a tick of the schedule.
async fn scheduled(world: &World) -> Run {
    let now = world.context.clock.now();
    let mut conn = world.context.db.conn().await.unwrap();
    schedules::ensure(&mut conn, run::NIGHTLY, now - Duration::days(1)).await.unwrap();
    match run::request_tick(&world.context, now).await.unwrap() {
        Tick::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

async fn waiting(world: &World, id: RunId) -> RunView {
    eventually("the run waits for the window", || async {
        let view = run::find(&world.context, id).await.unwrap();
        view.window_opens_at.is_some().then_some(view)
    })
    .await
}

async fn upload(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 5000)).await);
    }
    files
}

async fn in_state(world: &World, state: ReplicaState) -> usize {
    let sql = format!("SELECT 1 FROM replicas WHERE store = 's3' AND state = '{state}'");
    texts(&world.context.db, &sql).await.len()
}

fn puts() -> Match {
    Match::method(Method::PUT)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_closes_lets_transfers_in_flight_finish_and_starts_nothing_more() {
    let world = nights().set("tiering.concurrency", 1).build().await;
    let files = upload(&world, 5).await;
    go_to(&world, "05:00:00");
    let gate = world.cloud.gate(puts(), Hold::RequestBody(1000));
    let worker = world.start_worker();
    let requested = scheduled(&world).await;
    gate.reached().await;
    assert!(in_state(&world, ReplicaState::Copying).await > 1, "more is claimed than has started");

    go_to(&world, "06:00:00");

    eventually("copies that have not started are released", || async {
        (in_state(&world, ReplicaState::Queued).await == 4).then_some(())
    })
    .await;
    gate.open();
    eventually("transfers in flight are finished", || async {
        (in_state(&world, ReplicaState::Present).await == 1).then_some(())
    })
    .await;
    let view = waiting(&world, requested.id).await;
    let opens: DateTime<Utc> =
        (world.context.clock.now().date_naive() + Duration::days(1)).and_time(NaiveTime::MIN).and_utc();
    assert_eq!((view.next_batch_at, view.window_opens_at), (Some(opens), Some(opens)));
    assert_eq!((view.run.status, view.run.files_done), (RunStatus::Running, 1));
    assert_eq!(in_state(&world, ReplicaState::Copying).await, 0);
    assert_eq!(world.cloud.count(&puts()), 1, "nothing more was started");

    go_to(&world, "00:00:00");

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 5, 0));
    assert_eq!(world.cloud.count(&puts()), 5, "each file once");
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, 5000).sha256()));
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_in_flight_is_finished_to_its_last_part() {
    let world = nights()
        .set("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.part_concurrency", 1)
        .build()
        .await;
    let user = world.user().await;
    let large = world.upload(user, "large", pattern(1, 40 * MIB)).await;
    go_to(&world, "05:00:00");
    let gate = world.cloud.gate(puts().parameter("partNumber", "2"), Hold::RequestBody(MIB));
    let worker = world.start_worker();
    let requested = scheduled(&world).await;
    gate.reached().await;

    go_to(&world, "06:00:00");
    gate.open();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    assert_eq!(world.stored("s3", &large).await, Some(pattern(1, 40 * MIB).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_runs_do_not_wait_for_the_window() {
    let world = nights().build().await;
    upload(&world, 3).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manual_runs_wait_if_the_window_applies_to_them() {
    let world = nights().set("tiering.window_applies_to_manual", true).build().await;
    upload(&world, 3).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    let view = waiting(&world, requested.id).await;
    assert_eq!((view.run.files_total, view.run.files_done), (3, 0));

    go_to(&world, "00:00:00");

    assert_eq!(world.ended(requested.id).await.files_done, 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_the_window_is_replaced_by_a_manual_one() {
    let world = nights().build().await;
    upload(&world, 3).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    let nightly = scheduled(&world).await;
    waiting(&world, nightly.id).await;

    let run = world.sync().await;

    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 3, 3));
    let nightly = world.ended(nightly.id).await;
    assert_eq!((nightly.status, nightly.files_done), (RunStatus::Cancelled, 0));
    assert!(nightly.error.unwrap().contains("transfer window"));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_tick_adds_to_a_run_that_waits() {
    let world = nights().build().await;
    upload(&world, 2).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    let nightly = scheduled(&world).await;
    waiting(&world, nightly.id).await;
    upload(&world, 1).await;

    let second = run::request_tick(&world.context, world.context.clock.now()).await.unwrap();
    assert!(matches!(second, Tick::Taken), "the waiting run does its work");
    go_to(&world, "00:00:00");

    let run = world.ended(nightly.id).await;
    assert_eq!((run.files_total, run.files_done), (3, 3));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_the_window_can_be_cancelled() {
    let world = nights().build().await;
    upload(&world, 2).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    let nightly = scheduled(&world).await;
    waiting(&world, nightly.id).await;

    run::cancel(&world.context, nightly.id, None, &Origin::default()).await.unwrap();

    assert_eq!(world.ended(nightly.id).await.status, RunStatus::Cancelled);
    assert_eq!(world.sync().await.files_done, 2, "the rest is left for the next run");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_while_its_last_transfer_finishes_after_closing_ends() {
    let world = nights().set("tiering.concurrency", 1).build().await;
    upload(&world, 3).await;
    go_to(&world, "05:00:00");
    let gate = world.cloud.gate(puts(), Hold::RequestBody(1000));
    let worker = world.start_worker();
    let nightly = scheduled(&world).await;
    gate.reached().await;
    go_to(&world, "06:00:00");
    eventually("copies that have not started are released", || async {
        (in_state(&world, ReplicaState::Queued).await == 2).then_some(())
    })
    .await;

    run::cancel(&world.context, nightly.id, None, &Origin::default()).await.unwrap();
    gate.open();

    let run = world.ended(nightly.id).await;
    assert_eq!((run.status, run.files_done), (RunStatus::Cancelled, 1));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_does_not_fit_the_window_is_forecast() {
    let world = nights().build().await;
    upload(&world, 2).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    assert_eq!(forecast(&world).await, None, "nothing is running");
    let first = world.sync().await;
    upload(&world, 4).await;
    let nightly = scheduled(&world).await;
    waiting(&world, nightly.id).await;

    let fits = forecast(&world).await.unwrap();
    assert_eq!((fits.run, fits.files, fits.bytes), (nightly.id, 4, 20_000));
    assert_eq!(fits.window, Some(std::time::Duration::from_secs(6 * 3600)));
    assert!(!fits.exceeds_window(), "{fits:?}");

    // As if the two files of the first run had taken seven hours.
    let sql =
        format!("UPDATE runs SET started_at = finished_at - interval '7 hours' WHERE id = '{}'", first.id);
    execute(&world.context.db, &sql).await.unwrap();
    let exceeds = forecast(&world).await.unwrap();
    assert_eq!(exceeds.needs, Some(std::time::Duration::from_secs(14 * 3600)));
    assert!(exceeds.exceeds_window());
    worker.stop().await;
}

async fn forecast(world: &World) -> Option<Forecast> {
    let mut conn = world.context.db.conn().await.unwrap();
    forecast::of_active(&world.context, &mut conn).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_drains_while_its_run_waits_and_the_next_one_continues() {
    let world = nights().build().await;
    upload(&world, 2).await;
    go_to(&world, "12:00:00");
    let worker = world.start_worker();
    let nightly = scheduled(&world).await;
    waiting(&world, nightly.id).await;

    worker.stop().await;

    assert_eq!(in_state(&world, ReplicaState::Queued).await, 2);
    let next = world.start_worker();
    go_to(&world, "00:00:00");
    assert_eq!(world.ended(nightly.id).await.files_done, 2);
    next.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_gets_sigterm_while_its_run_waits_leaves_nothing_claimed() {
    // A process uses the system clock: the window opens two hours from now.
    let hour = |hours| (Utc::now() + Duration::hours(hours)).format("%H:%M").to_string();
    let world = nights().set("tiering.window", format!("{}-{}", hour(2), hour(3))).build().await;
    upload(&world, 2).await;
    let worker = world.start_worker_process().await;
    let nightly = scheduled(&world).await;
    waiting(&world, nightly.id).await;

    worker.terminate();
    let status = worker.ended().await;

    assert!(status.success(), "{status}:\n{}", worker.output());
    assert_eq!(in_state(&world, ReplicaState::Queued).await, 2);
    assert!(texts(&world.context.db, "SELECT id FROM workers").await.is_empty(), "it has unregistered");
    assert_invariants(&world).await;
}
