//! Runs: one at a time, cancelled on request, retried after failures, started by the schedule.

use chrono::{Duration, Utc};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus, RunTrigger};
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::db::{replicas, schedules};
use nightferry_core::error::Error;
use nightferry_core::file::trash;
use nightferry_core::tiering::run;
use nightferry_tests::harness::{World, eventually, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_is_refused_while_a_run_is_active() {
    let world = World::new().await;
    let first = world.request_run(RunScope::default()).await;

    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    let second = run::request(&world.context, new, &Origin::default()).await;

    assert!(matches!(second, Err(Error::SyncAlreadyRunning(id)) if id == first.id), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_ten_concurrent_requests_creates_a_run() {
    let world = World::new().await;
    let requests = (0..10).map(|_| {
        let context = world.context.clone();
        tokio::spawn(async move {
            let new = NewRun {
                trigger: RunTrigger::Api,
                requested_by: None,
                tick: None,
                scope: RunScope::default(),
            };
            run::request(&context, new, &Origin::default()).await
        })
    });
    let outcomes: Vec<_> =
        futures_util::future::join_all(requests).await.into_iter().map(Result::unwrap).collect();

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(
        outcomes
            .iter()
            .filter(|outcome| outcome.is_err())
            .all(|outcome| matches!(outcome, Err(Error::SyncAlreadyRunning(_))))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_starts_a_requested_run_within_a_second() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 10)).await;
    let worker = world.start_worker();
    // Warm-up: the worker listens once its first run is over.
    world.sync().await;
    world.upload(user, "b", pattern(2, 10)).await;

    let run = world.sync().await;

    let waited = run.started_at.unwrap() - run.created_at;
    assert!(waited < Duration::seconds(1), "{waited}");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_nothing_to_do_succeeds() {
    let world = World::new().await;
    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!((run.status, run.files_total), (RunStatus::Succeeded, 0));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_copies_nothing_again_and_takes_new_versions() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 1000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    assert_eq!(world.sync().await.files_total, 0);

    let second = world.upload(user, "a", pattern(2, 2000)).await;
    assert_eq!((second.row.current_version, second.row.storage_location.as_str()), (2, "minio"));
    assert!(second.row.synced_at.is_none());
    assert_eq!(world.sync().await.files_done, 1);
    assert_eq!(world.stored("s3", &second).await, Some(pattern(2, 2000).sha256()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_limits_a_run_to_a_user_or_to_files() {
    let world = World::new().await;
    let (ann, bob) = (world.user().await, world.user().await);
    world.upload(ann, "a", pattern(1, 10)).await;
    let wanted = world.upload(bob, "b", pattern(2, 10)).await;
    world.upload(bob, "c", pattern(3, 10)).await;
    let worker = world.start_worker();

    let scope = RunScope { file_ids: Some(vec![wanted.row.id]), ..RunScope::default() };
    let id = world.request_run(scope).await.id;
    assert_eq!(world.ended(id).await.files_total, 1);
    let scope = RunScope { user_id: Some(ann), ..RunScope::default() };
    let id = world.request_run(scope).await.id;
    assert_eq!(world.ended(id).await.files_total, 1);
    assert_eq!(world.sync().await.files_total, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_the_trash_are_not_synced() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10)).await;
    trash::send(&world.context, user, file.row.id, None, &Origin::default()).await.unwrap();
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_total, 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_keeps_finished_copies_and_leaves_the_rest_for_the_next() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10)).await;
    // No worker is running: everything is queued when the run is cancelled.
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();

    let cancelled = run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();

    assert_eq!(cancelled.status, RunStatus::Cancelled);
    let again = run::cancel(&world.context, requested.id, None, &Origin::default()).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    let mut conn = world.context.db.conn().await.unwrap();
    let rows = replicas::of_objects(&mut conn, &[file.object_id]).await.unwrap();
    let cloud = rows.iter().find(|row| row.store == "s3").unwrap();
    assert_eq!((cloud.state, cloud.run_id), (ReplicaState::Queued, None));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_can_be_synced_on_request_and_joins_the_active_run() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 10)).await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let late = world.upload(user, "late", pattern(2, 10)).await;

    let new =
        NewRun { trigger: RunTrigger::Api, requested_by: Some(user), tick: None, scope: RunScope::default() };
    let joined = run::request_file(&world.context, late.row.id, Some(user), new.clone(), &Origin::default())
        .await
        .unwrap();
    assert_eq!(joined, requested.id);
    let stranger = world.user().await;
    let refused =
        run::request_file(&world.context, late.row.id, Some(stranger), new, &Origin::default()).await;
    assert!(matches!(refused, Err(Error::NotFound(_))));

    let worker = world.start_worker();
    let run = world.ended(requested.id).await;
    assert_eq!((run.files_total, run.files_done), (2, 2));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_makes_exactly_one_run_with_several_workers_up() {
    // Every second is a tick; there is nothing to copy, so runs end at once.
    let world = World::with("tiering.schedule", "* * * * * *").build().await;
    let workers = [world.start_worker(), world.start_worker(), world.start_worker()];

    let runs = eventually("three ticks have created runs", || async {
        let (runs, _) = run::page(&world.context, None, 50).await.unwrap();
        let ended: Vec<_> =
            runs.into_iter().map(|view| view.run).filter(|run| !run.status.is_active()).collect();
        (ended.len() >= 3).then_some(ended)
    })
    .await;

    let mut ticks: Vec<_> = runs.iter().map(|run| run.tick.unwrap()).collect();
    let all = ticks.len();
    ticks.sort();
    ticks.dedup();
    assert_eq!(ticks.len(), all, "a tick created two runs");
    assert!(
        ticks.iter().all(|tick| tick.timestamp_subsec_nanos() == 0),
        "ticks are whole seconds: {ticks:?}"
    );
    assert!(runs.iter().all(|run| run.trigger == RunTrigger::Schedule));
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_missed_while_every_worker_was_down_is_caught_up_once() {
    let world = World::with("tiering.schedule", "0 0 0 * * *").build().await;
    // The last tick was taken three nights ago.
    let mut conn = world.context.db.conn().await.unwrap();
    schedules::ensure(&mut conn, run::NIGHTLY, Utc::now() - Duration::days(3)).await.unwrap();

    let worker = world.start_worker();
    let runs = eventually("the missed tick creates a run", || async {
        let (runs, _) = run::page(&world.context, None, 10).await.unwrap();
        (!runs.is_empty() && runs.iter().all(|view| !view.run.status.is_active())).then_some(runs)
    })
    .await;
    worker.stop().await;

    assert_eq!(runs.len(), 1, "three missed nights are one run");
    let second = world.start_worker();
    world.sync().await;
    second.stop().await;
    let (runs, _) = run::page(&world.context, None, 10).await.unwrap();
    assert_eq!(runs.iter().filter(|view| view.run.trigger == RunTrigger::Schedule).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missed_tick_is_skipped_when_catching_up_is_off() {
    let world = World::with("tiering.catch_up", "false").build().await;
    let mut conn = world.context.db.conn().await.unwrap();
    let long_ago = Utc::now() - Duration::days(3);
    schedules::ensure(&mut conn, run::NIGHTLY, long_ago).await.unwrap();

    let worker = world.start_worker();
    eventually("the tick is taken", || async {
        let mut conn = world.context.db.conn().await.unwrap();
        schedules::last_tick(&mut conn, run::NIGHTLY).await.unwrap().filter(|tick| *tick > long_ago)
    })
    .await;
    worker.stop().await;

    assert!(run::page(&world.context, None, 10).await.unwrap().0.is_empty());
}
