//! The end of a run: copies that join it at that moment are made by it, or by a new run, and its counts add up.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus, RunTrigger};
use nightferry_core::db::replicas::{self, Until};
use nightferry_core::db::runs::{self, NewRun, RunScope};
use nightferry_core::db::schedules;
use nightferry_core::file::details::FileView;
use nightferry_core::file::trash;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::{plan, policy, run};
use nightferry_tests::harness::database::{execute_on, texts};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};

/// Files whose copy is queued in a run that has ended.
async fn left_behind(world: &World) -> Vec<String> {
    texts(
        &world.context.db,
        "SELECT concat_ws(' ', r.object_id, r.store, u.status) FROM replicas r JOIN runs u ON u.id = r.run_id \
         WHERE r.state = 'queued' AND u.finished_at IS NOT NULL",
    )
    .await
}

fn by_api() -> NewRun {
    NewRun { trigger: RunTrigger::Api, requested_by: None, tick: None, scope: RunScope::default() }
}

async fn request_file(world: &World, file: &FileView) -> RunId {
    run::request_file(&world.context, file.row.id, None, by_api(), &Origin::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_end_while_a_request_adds_copies_to_it() {
    let world = World::new().await;
    let user = world.user().await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let file = world.upload(user, "a", pattern(1, 1000)).await;

    // A request that has locked the run and planned its copy, and has not committed yet.
    let mut conn = world.context.db.conn().await.unwrap();
    execute_on(&mut conn, "BEGIN").await;
    let active = runs::lock_active(&mut conn).await.unwrap().unwrap();
    assert_eq!(active.id, requested.id);
    let in_force = policy::in_force(&world.context, &mut conn).await.unwrap();
    let scope = RunScope { file_ids: Some(vec![file.row.id]), ..RunScope::default() };
    let added = replicas::plan_until(&mut conn, active.id, &in_force, &scope, Until::Now).await.unwrap();
    assert_eq!(added.files, 1);
    runs::add_totals(&mut conn, active.id, added.files, added.bytes).await.unwrap();

    // A worker that found nothing to do ends the run now.
    let context = world.context.clone();
    let ending = tokio::spawn(async move { run::settle(&context, requested.id).await.unwrap() });
    let waiting = "SELECT pid FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("the run does not end now, or its end waits for the request", || async {
        let waits = !texts(&world.context.db, waiting).await.is_empty();
        (waits || ending.is_finished()).then_some(())
    })
    .await;
    execute_on(&mut conn, "COMMIT").await;
    drop(conn);

    assert!(ending.await.unwrap().is_none(), "the run has a queued copy and goes on");
    assert!(run::settle(&world.context, requested.id).await.unwrap().is_none());
    assert!(left_behind(&world).await.is_empty());
    let worker = world.start_worker();
    let ended = world.ended(requested.id).await;
    assert_eq!((ended.status, ended.files_total, ended.files_done), (RunStatus::Succeeded, 1, 1));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_request_is_carried_out_while_runs_start_and_end() {
    let world = World::new().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..120 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 200)).await);
    }
    let workers = [world.start_worker(), world.start_worker()];

    let mut accepted = Vec::new();
    for pair in files.chunks(2) {
        let (one, other) = tokio::join!(request_file(&world, &pair[0]), request_file(&world, &pair[1]));
        accepted.extend([one, other]);
        // Nothing else is due: the run ends while the next requests arrive.
        tokio::task::yield_now().await;
    }

    eventually("no run is active", || async {
        run::active(&world.context).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(left_behind(&world).await.is_empty());
    for file in &files {
        assert_eq!(world.replica("s3", file).await.unwrap().state, ReplicaState::Present);
    }
    accepted.sort();
    accepted.dedup();
    let (mut total, mut done) = (0, 0);
    for id in accepted {
        let ended = run::find(&world.context, id).await.unwrap().run;
        assert_eq!(ended.status, RunStatus::Succeeded, "{ended:?}");
        assert_eq!(ended.files_total, ended.files_done, "{ended:?}");
        total += ended.files_total;
        done += ended.files_done;
    }
    assert_eq!((total, done), (120, 120));
    for worker in workers {
        worker.stop().await;
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_that_meets_the_end_of_a_run_carries_its_files() {
    let world = World::new().await;
    let user = world.user().await;
    let mut tick = chrono::Utc::now();
    schedules::ensure(&mut world.context.db.conn().await.unwrap(), run::NIGHTLY, tick).await.unwrap();
    let worker = world.start_worker();
    for seed in 0..20 {
        let file = world.upload(user, &format!("{seed}"), pattern(seed, 100)).await;
        tick += chrono::Duration::seconds(1);
        while matches!(run::request_tick(&world.context, tick).await.unwrap(), run::Tick::NotYet) {
            tokio::task::yield_now().await;
        }
        eventually("the file of the tick is synced", || async {
            let replica = world.replica("s3", &file).await?;
            (replica.state == ReplicaState::Present).then_some(())
        })
        .await;
        assert!(left_behind(&world).await.is_empty());
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_joined_a_run_whose_plan_is_refused_is_made_by_another_run() {
    let world = World::new().await;
    let user = world.user().await;
    let first = world.upload(user, "planned", pattern(1, 100)).await;
    let plan = plan::make(&world.context, &RunScope::default(), None, &Origin::default()).await.unwrap();
    let planned = RunScope { plan_id: Some(plan.plan.id), ..RunScope::default() };
    let refused = world.request_run(planned).await;
    let joined = world.upload(user, "joined", pattern(2, 100)).await;
    assert_eq!(request_file(&world, &joined).await, refused.id, "it joins the queued run");
    trash::send(&world.context, user, first.row.id, None, &Origin::default()).await.unwrap();

    let worker = world.start_worker();

    assert_eq!(world.ended(refused.id).await.status, RunStatus::Failed);
    eventually("the copy that had joined is made", || async {
        let replica = world.replica("s3", &joined).await?;
        (replica.state == ReplicaState::Present).then_some(())
    })
    .await;
    assert!(left_behind(&world).await.is_empty());
    worker.stop().await;
}
