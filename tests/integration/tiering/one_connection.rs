//! A pool with a single connection: no path takes a second one while it holds one.

use std::time::Duration;

use nightferry_core::catalog;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::RunScope;
use nightferry_core::ids::WorkerId;
use nightferry_core::store::SNAPSHOT_PREFIX;
use nightferry_core::tiering::relocate::drain::{self, Draining};
use nightferry_core::tiering::{evict, plan, reap, reconcile, scrub, stores};
use nightferry_tests::harness::api::{PASSWORD, answered, problem};
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1024 * 1024;

fn one_connection() -> WorldBuilder {
    World::with("database.pool_size", 1)
        .set("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_suffices_for_the_api() {
    let world = one_connection().build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let small = ann.upload("small", pattern(1, 1000)).await;
    let large = ann.upload("large", pattern(2, 20 * MIB)).await;
    assert_eq!(ann.download(&small["id"]).await, pattern(1, 1000).bytes());
    assert_eq!(ann.download(&large["id"]).await, pattern(2, 20 * MIB).bytes());
    assert_eq!(ann.get("/api/files").await["files"].as_array().map(Vec::len), Some(2));
    let path = format!("/api/files/{}", small["id"].as_str().unwrap());
    let renamed = ann.request(Method::PATCH, &path).json(&json!({ "filename": "renamed", "pinned": true }));
    assert_eq!(answered(renamed).await.0, 200);
    assert_eq!(answered(ann.request(Method::DELETE, &path)).await.0, 204);
    ann.personal_token(&["files:read"]).await;
    let wrong = json!({ "email": ann.email, "password": format!("{PASSWORD}!") });
    let wrong = api.request(Method::POST, "/api/auth/login").json(&wrong);
    problem(wrong, 401, "INVALID_CREDENTIALS").await;
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let refresh = api.request(Method::POST, "/api/auth/refresh").json(&refresh);
    assert_eq!(answered(refresh).await.0, 200);
    assert_eq!(answered(api.request(Method::GET, "/health/ready")).await.0, 200);
    assert_eq!(api.request(Method::GET, "/metrics").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_suffices_for_a_worker() {
    let world = one_connection().another_local("nas").build().await;
    let user = world.user().await;
    for seed in 0..5 {
        world.upload(user, &format!("{seed}"), pattern(seed, 9_000)).await;
    }
    world.upload(user, "large", pattern(9, 20 * MIB)).await;
    let made = plan::make(&world.context, &RunScope::default(), None, &Origin::default()).await.unwrap();
    assert_eq!(made.files, 6);
    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 6));
    drain::begin(&world.context, "minio", None, &Origin::default()).await.unwrap();
    eventually("the store is empty", || async {
        drain::look(&world.context, "minio").await.unwrap().filter(Draining::is_finished)
    })
    .await;
    worker.stop().await;

    let (context, stop) = (&world.context, CancellationToken::new());
    reap::pass(context).await.unwrap();
    reap::expired_rows(context).await.unwrap();
    evict::pass(context, WorkerId::new(), &stop).await.unwrap();
    assert_eq!(stores::list(context).await.unwrap().len(), 3);
    for store in context.stores.all() {
        let options = reconcile::Options { apply: true, safety_age: Duration::from_secs(3600) };
        let summary = reconcile::pass(context, store, options, |_| (), &stop).await.unwrap().unwrap();
        assert!(summary.complete);
    }
    let all = context.stores.all().cloned().collect();
    let options =
        scrub::Options { stores: all, rate: None, bytes: None, time: None, min_age: Duration::ZERO };
    let summary = scrub::pass(context, &options, |_| (), &stop).await.unwrap().unwrap();
    assert_eq!((summary.right, summary.found()), (12, 0));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_fail_do_not_starve_the_worker() {
    let world = one_connection().build().await;
    let user = world.user().await;
    for seed in 0..20 {
        world.upload(user, &format!("{seed}"), pattern(seed, 1000)).await;
    }
    let denied = world.cloud.add(Fault::status(400, "EntityTooLarge").on(Method::PUT));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_failed), (RunStatus::Failed, 20));
    denied.remove();
    assert_eq!(world.retry().await.files_done, 20);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_the_catalogue_leaves_the_pool_to_others() {
    let world = one_connection().build().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 1000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT).key_contains(SNAPSHOT_PREFIX), Hold::Request);
    let stop = CancellationToken::new();
    let others = async {
        gate.reached().await;
        let held = texts(&world.context.db, "SELECT name FROM leases WHERE until > now()").await;
        gate.open();
        held
    };

    let (written, held) = tokio::join!(catalog::export(&world.context, |_| (), &stop), others);

    written.unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
}
