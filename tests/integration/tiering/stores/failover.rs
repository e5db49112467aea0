//! Failover: another store takes the place of one that is down, until that has recovered.

use nightferry_core::file::upload;
use nightferry_core::object::health;
use nightferry_core::tiering::stores;
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::world::request;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

use super::hash;

fn two_locals() -> WorldBuilder {
    World::with("health.failures", 2).set("health.successes", 3).another_local("nas")
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_fail_over_to_the_other_local_store_and_return_after_recovery() {
    let world = two_locals().build().await;
    let user = world.user().await;
    let before = world.upload(user, "before", pattern(1, 5_000)).await;
    world.local.down().await;
    assert!(world.context.stores.health().is_up("minio"), "the stores have not been checked yet");
    // Each failed upload counts as a probe too: after the second one, no further upload uses the store.
    for _ in 0..2 {
        assert!(
            upload::receive(&world.services.files, request(user, "no"), &mut pattern(9, 10)).await.is_err()
        );
    }
    assert!(!world.context.stores.health().is_up("minio"));

    let meanwhile = world.upload(user, "meanwhile", pattern(2, 5_000)).await;
    assert_eq!(meanwhile.row.storage_location, "nas");
    assert_eq!(hash(&world, &meanwhile).await, pattern(2, 5_000).sha256());
    world.local.up().await;
    for _ in 0..2 {
        health::check_all(&world.context).await;
        assert_eq!(
            world.upload(user, "still", pattern(3, 10)).await.row.storage_location,
            "nas",
            "not yet unhealthy"
        );
    }
    health::check_all(&world.context).await;

    assert_eq!(world.upload(user, "after", pattern(4, 10)).await.row.storage_location, "minio");
    assert_eq!(hash(&world, &before).await, pattern(1, 5_000).sha256());
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 5, "files in either store are synced (versions count)");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_failure_does_not_change_the_order_of_stores() {
    let world = two_locals().build().await;
    let user = world.user().await;
    let hiccup = world.local.add(Fault::status(503, "ServiceUnavailable").on(Method::GET));
    health::check_all(&world.context).await;
    hiccup.remove();
    health::check_all(&world.context).await;
    let hiccup = world.local.add(Fault::status(503, "ServiceUnavailable").on(Method::GET));
    health::check_all(&world.context).await;
    hiccup.remove();
    assert!(world.context.stores.health().is_up("minio"), "two failures, not in a row");
    assert_eq!(world.upload(user, "a", pattern(1, 10)).await.row.storage_location, "minio");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_tries_a_store_that_is_down_last() {
    let world = two_locals().set("tiering.local_replicas", 2).build().await;
    let user = world.user().await;
    let worker = world.start_worker();
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    eventually("both have it", || async {
        let there = world.replica("nas", &file).await?;
        there.verified_at
    })
    .await;
    worker.stop().await;
    let reads = || Match::method(Method::GET).key_contains("-a");
    let fault = world.local.add(Fault::status(503, "ServiceUnavailable"));
    for _ in 0..2 {
        assert_eq!(hash(&world, &file).await, pattern(1, 5_000).sha256());
    }
    world.local.forget_requests();

    assert_eq!(hash(&world, &file).await, pattern(1, 5_000).sha256());

    assert_eq!(world.local.count(&reads()), 0, "two downloads have hit the fault, the third does not");
    fault.remove();
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_are_down_are_reported() {
    let world = two_locals().set("health.interval", "100ms").build().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let worker = world.start_worker();
    let state = async |name: &str, wanted: &str| {
        eventually(&format!("{name} is {wanted}"), || async {
            let views = stores::list(&world.context).await.unwrap();
            let view = views.into_iter().find(|view| view.name == name).unwrap();
            (view.state() == wanted).then_some(view)
        })
        .await
    };
    state("minio", "up").await;
    state("nas", "up").await;
    world.proxy("nas").down().await;

    let view = state("nas", "down").await;

    assert!(view.health.as_ref().unwrap().last_error.is_some(), "{view:?}");
    let answer = admin.get("/api/admin/stores").await;
    let stores = answer["stores"].as_array().unwrap();
    assert_eq!(
        stores.iter().map(|store| store["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["minio", "nas", "s3"]
    );
    assert_eq!((stores[0]["main"].as_bool(), stores[1]["main"].as_bool()), (Some(true), Some(false)));
    eventually("the metrics report it", || async {
        let text = api.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("nightferry_store_up") && line.contains("nas"));
        line.filter(|line| line.ends_with(" 0")).map(drop)
    })
    .await;
    let ready = api.request(Method::GET, "/health/ready").send().await.unwrap();
    assert_eq!(ready.status(), 200, "the other local store serves the download");
    world.proxy("nas").up().await;
    state("nas", "up").await;
    worker.stop().await;
}
