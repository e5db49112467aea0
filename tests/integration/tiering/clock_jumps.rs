//! Clock jumps: leases and backoffs use the clock of the database, and no nightly run is repeated.

use chrono::Duration;
use nightferry_core::clock::Clock;
use nightferry_core::context::Context;
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_core::db::runs::{Run, RunScope};
use nightferry_core::db::schedules;
use nightferry_core::tiering::run;
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{WorkerHandle, World, assert_invariants, eventually, pattern};
use reqwest::Method;

/// The same installation, used by a process whose clock is wrong.
fn with_clock_off(world: &World, by: Duration) -> Context {
    let clock = Clock::system();
    clock.advance(by);
    Context { clock, ..world.context.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_with_different_clocks_do_not_take_over_each_others_copies() {
    let world = World::with("tiering.batch_size", 5).set("tiering.concurrency", 5).build().await;
    let user = world.user().await;
    for seed in 0..20 {
        world.upload(user, &format!("{seed}"), pattern(seed, 2000)).await;
    }
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let early = WorkerHandle::start(with_clock_off(&world, Duration::hours(-5)));
    let late = WorkerHandle::start(with_clock_off(&world, Duration::hours(5)));
    let requested = world.request_run(RunScope::default()).await;
    gate.reached_by(10).await;
    // Meanwhile, the clock of the other processes jumps too.
    world.context.clock.advance(Duration::days(1));
    gate.open();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 20, 0));
    assert_eq!(world.cloud.count(&Match::method(Method::PUT)), 20, "each once");
    early.stop().await;
    late.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_jumps_during_a_retry_pause_cause_no_delay() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 2000)).await;
    let fault = world.cloud.add(Fault::status(500, "InternalError").on(Method::PUT).times(2));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    eventually("the first attempt fails", || async { (fault.struck() > 0).then_some(()) }).await;
    world.context.clock.advance(Duration::hours(-30));

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 2000).sha256()));
    worker.stop().await;
}

async fn nightly(world: &World) -> Vec<Run> {
    let (runs, _) = run::page(&world.context, None, 50).await.unwrap();
    runs.into_iter().map(|view| view.run).filter(|run| run.trigger == RunTrigger::Schedule).collect()
}

async fn nights(world: &World, count: usize) {
    eventually(&format!("{count} nights have created runs"), || async {
        (nightly(world).await.len() >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_over_midnight_does_not_make_a_second_run_of_the_night() {
    let world = World::with("tiering.schedule", "0 0 0 * * *").build().await;
    // From here on, scheduled runs are enabled.
    {
        let mut conn = world.context.db.conn().await.unwrap();
        schedules::ensure(&mut conn, run::NIGHTLY, world.context.clock.now()).await.unwrap();
    }
    let worker = world.start_worker();
    run_by_hand(&world).await;
    world.context.clock.advance(Duration::days(1));
    nights(&world, 1).await;

    // Before that midnight, with a new worker without any state, and then after it again.
    world.context.clock.advance(Duration::days(-1));
    worker.stop().await;
    let worker = world.start_worker();
    run_by_hand(&world).await;
    world.context.clock.advance(Duration::days(1));
    run_by_hand(&world).await;
    // Only the next night is due.
    world.context.clock.advance(Duration::days(1));
    nights(&world, 2).await;

    worker.stop().await;
    let mut ticks: Vec<_> = nightly(&world).await.into_iter().map(|run| run.tick.unwrap()).collect();
    ticks.sort();
    assert_eq!(ticks.len(), 2);
    assert_eq!(ticks[1] - ticks[0], Duration::days(1));
}

/// Shows that a worker is running.
async fn run_by_hand(world: &World) {
    world.ended(request(world).await).await;
}

/// A manually requested run, once no other run is active.
async fn request(world: &World) -> nightferry_core::ids::RunId {
    use nightferry_core::db::audit::Origin;
    use nightferry_core::db::runs::NewRun;
    eventually("a run can be requested", || async {
        let new =
            NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
        run::request(&world.context, new, &Origin::default()).await.ok().map(|run| run.id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_another_time_costs_no_attempts() {
    let world = World::with("tiering.max_attempts", 2).build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 2000)).await;
    let fault = world.cloud.add(Fault::status(403, "RequestTimeTooSkewed").on(Method::PUT));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    // Each copy is sent a second time with a fresh signature.
    eventually("more copies than attempts are refused", || async { (fault.struck() >= 6).then_some(()) })
        .await;

    assert_eq!(world.replica("s3", &file).await.unwrap().attempts, 0);
    fault.remove();
    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    worker.stop().await;
}
