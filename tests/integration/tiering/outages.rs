//! A store outage: the run waits and continues on its own, and no file loses attempts.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::RunScope;
use nightferry_core::db::workers;
use nightferry_core::tiering::run;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Fault, FaultProxy, Match};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;

/// The probes that the worker sends to a store that seems to be down.
fn probe() -> Match {
    Match::method(Method::GET).has_parameter("list-type")
}

async fn most_attempts(world: &World) -> i32 {
    let most = texts(&world.context.db, "SELECT coalesce(max(attempts), 0) FROM replicas").await;
    most[0].parse().unwrap()
}

/// A store responds with 503 to every request until the worker has probed it a few times.
async fn run_waits_until_the_store_is_back(store: fn(&World) -> &FaultProxy, files: u64) {
    let world = World::with("tiering.max_attempts", 2).build().await;
    let user = world.user().await;
    for seed in 0..files {
        world.upload(user, &format!("{seed}"), pattern(seed, 5000)).await;
    }
    store(&world).forget_requests();
    let outage = store(&world).add(Fault::status(503, "ServiceUnavailable"));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;

    eventually("everything is queued again", || async {
        let copying = texts(&world.context.db, "SELECT 1 FROM replicas WHERE state = 'copying'").await;
        (outage.struck() > 0 && copying.is_empty()).then_some(())
    })
    .await;
    // The failed files caused probes of the store; from now on, only the health checks probe it.
    let probes = store(&world).count(&probe());
    store(&world)
        .until(|requests| requests.iter().filter(|request| probe().holds(request)).count() >= probes + 2)
        .await;
    let waiting = run::find(&world.context, requested.id).await.unwrap().run;
    assert_eq!((waiting.status, waiting.files_failed), (RunStatus::Running, 0), "it waits");
    assert_eq!(most_attempts(&world).await, 0, "no attempt is counted for the outage");
    let asked = store(&world).requests().len();
    outage.remove();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, files as i64, 0));
    assert!(asked < 60, "{asked} requests went to a store that is down");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_until_the_cloud_is_back() {
    run_waits_until_the_store_is_back(|world| &world.cloud, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_until_the_local_store_is_back() {
    run_waits_until_the_store_is_back(|world| &world.local, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_single_file_survives_an_outage() {
    run_waits_until_the_store_is_back(|world| &world.cloud, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_connections_for_a_while_is_waited_for() {
    let world = World::with("tiering.max_attempts", 2)
        .set("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .build()
        .await;
    let user = world.user().await;
    let small = world.upload(user, "small", pattern(1, 1000)).await;
    let large = world.upload(user, "large", pattern(2, 20 * 1024 * 1024)).await;
    // In the middle of the second part, the store goes down and its connections break.
    let gate = world.cloud.gate(
        Match::method(Method::PUT).parameter("partNumber", "2"),
        nightferry_tests::harness::fault_proxy::Hold::RequestBody(1_000_000),
    );
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    world.cloud.down().await;
    eventually("the large file is queued again", || async {
        let replica = world.replica("s3", &large).await.unwrap();
        (replica.last_error.is_some() && replica.attempts == 0).then_some(())
    })
    .await;
    gate.open();
    world.cloud.up().await;

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 2, 0), "{run:?}");
    assert_eq!(world.stored("s3", &small).await, Some(pattern(1, 1000).sha256()));
    assert_eq!(world.stored("s3", &large).await, Some(pattern(2, 20 * 1024 * 1024).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_that_a_worker_waits_for_is_reported() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 1000)).await;
    world.cloud.down().await;
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    let waits_for = async |wanted: &[&str]| {
        eventually("the worker reports what it waits for", || async {
            let mut conn = world.context.db.conn().await.unwrap();
            let workers = workers::all(&mut conn).await.unwrap();
            workers.iter().any(|worker| worker.waits_for() == wanted).then_some(())
        })
        .await;
    };

    waits_for(&["s3"]).await;
    world.cloud.up().await;

    assert_eq!(world.ended(requested.id).await.files_done, 1);
    waits_for(&[]).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_store_can_be_cancelled() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    world.cloud.down().await;
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    eventually("the store is detected as down", || async {
        world.replica("s3", &file).await.and_then(|replica| replica.last_error)
    })
    .await;

    run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();

    assert_eq!(world.ended(requested.id).await.status, RunStatus::Cancelled);
    world.cloud.up().await;
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_has_lost_its_store_is_an_outage() {
    let world = World::with("tiering.max_attempts", 1).build().await;
    let user = world.user().await;
    for seed in 0..5 {
        world.upload(user, &format!("{seed}"), pattern(seed, 5000)).await;
    }
    let lost = world.cloud.add(Fault::status(404, ""));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    world.cloud.until(|requests| requests.iter().filter(|request| probe().holds(request)).count() >= 3).await;
    assert_eq!(most_attempts(&world).await, 0, "no attempt is counted for the outage");
    lost.remove();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 5, 0));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_and_refuses_stops_the_run_with_its_reason() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 5000)).await;
    let outage = world.cloud.add(Fault::status(503, "ServiceUnavailable"));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    world.cloud.until(|requests| requests.iter().filter(|request| probe().holds(request)).count() >= 2).await;
    world.cloud.add(Fault::status(403, "ExpiredToken"));
    outage.remove();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_failed), (RunStatus::Failed, 0));
    assert!(run.error.as_deref().is_some_and(|reason| reason.contains("ExpiredToken")), "{run:?}");
    assert_eq!(most_attempts(&world).await, 0);
    worker.stop().await;
}
