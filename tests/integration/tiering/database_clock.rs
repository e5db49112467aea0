//! What processes share is decided by the clock of the database: a process with a wrong clock harms no other.

use chrono::{Duration, Utc};
use nightferry_core::clock::Clock;
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::runs::RunScope;
use nightferry_core::db::schedules;
use nightferry_core::tiering::{plan, reap};
use nightferry_tests::harness::api::{Api, answered};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{WorkerHandle, World, eventually, pattern};
use reqwest::Method;

const SCHEDULED: &str = "SELECT id FROM runs WHERE trigger = 'schedule'";

/// Waits until the query returns something.
async fn found(world: &World, what: &str, sql: &str) {
    eventually(what, || async { (!texts(&world.context.db, sql).await.is_empty()).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_two_days_ahead_copies_but_takes_no_tick() {
    let world = World::with("tiering.schedule", "* * * * * *").build().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 2000)).await;
    let ahead = WorkerHandle::start(world.context_with_clock(Clock::wrong_by(Duration::days(2))));
    assert_eq!(world.sync().await.files_done, 1);
    found(
        &world,
        "it reports its clock, and would have taken ticks",
        "SELECT id FROM workers WHERE clock_ahead_ms > 172000000 AND heartbeat_at > started_at + interval '3s'",
    )
    .await;

    assert_eq!(texts(&world.context.db, SCHEDULED).await, [""; 0]);
    let future = "SELECT name FROM schedules WHERE last_tick > now() + interval '1 minute'";
    assert_eq!(texts(&world.context.db, future).await, [""; 0]);
    let worker = world.start_worker();
    found(&world, "the ticks of the other worker make runs", SCHEDULED).await;
    ahead.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_an_hour_ahead_does_not_abandon_uploads_in_progress() {
    let world = World::with("uploads.reap_after", "1h").build().await;
    let user = world.user().await;
    let ahead = world.context_with_clock(Clock::wrong_by(Duration::minutes(65)));
    let gate = world.local.gate(Match::method(Method::PUT), Hold::Request);
    let reaping = async {
        gate.reached().await;
        let reaped = reap::pass(&ahead).await.unwrap();
        gate.open();
        reaped
    };

    let (file, reaped) = tokio::join!(world.upload(user, "a", pattern(1, 2000)), reaping);

    assert_eq!(reaped.uploads, 0);
    assert_eq!(world.stored("minio", &file).await, Some(pattern(1, 2000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_while_the_process_runs_changes_no_decision() {
    let world = World::new().await;
    let clock = Clock::system();
    let context = world.context_with_clock(clock.clone());
    context.compare_clocks().await.unwrap();
    clock.jump(Duration::hours(-30));

    let make = async |context: &Context| {
        plan::make(context, &RunScope::default(), None, &Origin::default()).await.unwrap().plan.expires_at
    };
    let (jumped, right) = (make(&context).await, make(&world.context).await);

    assert!((jumped - right).abs() < Duration::minutes(1), "{jumped} {right}");
    assert!(clock.is_wrong());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_far_in_the_future_is_never_recorded() {
    let world = World::new().await;
    let mut conn = world.context.db.conn().await.unwrap();
    let now = Utc::now();
    schedules::ensure(&mut conn, "test", now).await.unwrap();

    let far = now + Duration::days(2);
    assert!(!schedules::take_tick(&mut conn, "test", far, Duration::zero()).await.unwrap());

    let last = schedules::last_tick(&mut conn, "test").await.unwrap().unwrap();
    assert!(last < now + Duration::seconds(1), "{last}");
    let near = now + Duration::seconds(30);
    assert!(schedules::take_tick(&mut conn, "test", near, Duration::zero()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_in_the_future_that_an_older_version_recorded_is_corrected() {
    let world = World::with("tiering.schedule", "* * * * * *").build().await;
    let future = "INSERT INTO schedules (name, last_tick) VALUES ('sync', now() + interval '2 days')";
    execute(&world.context.db, future).await.unwrap();
    let worker = world.start_worker();
    found(&world, "ticks make runs again", SCHEDULED).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_shows_a_wrong_clock() {
    let world = World::new().await;
    let api = Api::start(world.context_with_clock(Clock::wrong_by(Duration::hours(-2))));
    let (status, ready) = answered(api.request(Method::GET, "/health/ready")).await;
    assert_eq!(status, 200, "{ready}");
    let shown = (ready["status"].as_str(), ready["checks"]["clock"].as_str());
    assert_eq!(shown, (Some("degraded"), Some("wrong")));
    // Tokens are issued and expire by the clock of the database.
    let ann = api.person().await;
    ann.get("/api/files").await;
    let (status, ready) = answered(world.start_api().request(Method::GET, "/health/ready")).await;
    assert_eq!((status.as_u16(), ready["checks"]["clock"].as_str()), (200, Some("ok")), "{ready}");
}
