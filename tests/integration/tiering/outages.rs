//! A whole store out of order: the run waits and goes on by itself, and no file pays for it with its attempts.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::tiering::run;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Fault, FaultProxy, Match};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;

/// What the worker asks a store that seems to be down.
fn probe() -> Match {
    Match::method(Method::GET).has_parameter("list-type")
}

async fn most_attempts(world: &World) -> i32 {
    let most = texts(&world.context.db, "SELECT coalesce(max(attempts), 0) FROM replicas").await;
    most[0].parse().unwrap()
}

/// A store answers 503 to everything until the worker has asked a few times whether it is back.
async fn run_waits_until_the_store_is_back(store: fn(&World) -> &FaultProxy, files: u64) {
    let world = World::with("tiering.max_attempts", 2).build().await;
    let user = world.user().await;
    for seed in 0..files {
        world.upload(user, &format!("{seed}"), pattern(seed, 5000)).await;
    }
    store(&world).forget_requests();
    let outage = store(&world).add(Fault::status(503, "ServiceUnavailable"));
    let worker = world.start_worker();
    let requested = world.request_run(Default::default()).await;

    // The first to fail ask at once; the later probes are the breaker's.
    store(&world).until(|requests| requests.iter().filter(|request| probe().holds(request)).count() > 18).await;
    let waiting = run::find(&world.context, requested.id).await.unwrap().run;
    assert_eq!((waiting.status, waiting.files_failed), (RunStatus::Running, 0), "it waits");
    assert_eq!(most_attempts(&world).await, 0, "no file pays for the outage");
    let asked = store(&world).requests().len();
    outage.remove();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, files as i64, 0));
    assert!(asked < 60, "{asked} requests went to a store that is down");
    worker.stop().await;
    assert_invariants(&world).await;
}
