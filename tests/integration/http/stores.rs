//! Administration: stores over HTTP and on the command line.

use nightferry_tests::harness::api::{answered, problem};
use nightferry_tests::harness::{WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_drains_a_store_and_undoes_it() {
    let world = WorldBuilder::default().another_local("nas").set("stores.nas.capacity", "1GiB").build().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    admin.upload("a", pattern(1, 1_000)).await;
    let (status, begun) = answered(admin.request(Method::POST, "/api/admin/stores/minio/drain")).await;
    assert_eq!(status, 202, "{begun}");
    assert_eq!(
        (&begun["replicas_total"], &begun["bytes_left"], &begun["requested_by"]),
        (&json!(1), &json!(1_000), &json!(admin.id))
    );

    let worker = world.start_worker();
    let stores = eventually("the store is empty", || async {
        let answer = admin.get("/api/admin/stores").await;
        (answer["stores"][0]["state"] == "drained").then_some(answer["stores"].clone())
    })
    .await;

    assert_eq!(stores[0]["replicas"], json!([]));
    assert_eq!(stores[0]["drain"]["replicas_left"], 0);
    let nas = &stores[1];
    assert_eq!((&nas["name"], &nas["role"], &nas["main"]), (&json!("nas"), &json!("local"), &json!(false)));
    assert_eq!(nas["replicas"], json!([{ "state": "present", "replicas": 1, "bytes": 1_000, "suspect": 0 }]));
    assert_eq!((&nas["used_bytes"], &nas["capacity_bytes"]), (&json!(1_000), &json!(1_u64 << 30)));
    assert_eq!(nas["health"]["status"], "unknown", "the store has not been checked yet");
    let (status, _) = answered(admin.request(Method::DELETE, "/api/admin/stores/minio/drain")).await;
    assert_eq!(status, 204);
    assert_eq!(admin.get("/api/admin/stores").await["stores"][0]["drain"], Value::Null);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_drain_is_rejected_and_only_administrators_may_request_one() {
    let world = WorldBuilder::default().build().await;
    let api = world.start_api();
    let (admin, ann) = (api.admin(&world).await, api.person().await);
    problem(admin.request(Method::POST, "/api/admin/stores/nowhere/drain"), 404, "NOT_FOUND").await;
    let (status, _) = answered(admin.request(Method::POST, "/api/admin/stores/minio/drain")).await;
    assert_eq!(status, 202);
    problem(admin.request(Method::POST, "/api/admin/stores/s3/drain"), 409, "CONFLICT").await;
    for (method, path) in [
        (Method::GET, "/api/admin/stores"),
        (Method::POST, "/api/admin/stores/minio/drain"),
        (Method::DELETE, "/api/admin/stores/minio/drain"),
    ] {
        problem(ann.request(method.clone(), path), 403, "FORBIDDEN").await;
        problem(api.request(method, path), 401, "UNAUTHENTICATED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_command_waits_until_a_store_is_empty() {
    let world = WorldBuilder::default().another_local("nas").build().await;
    let user = world.user().await;
    for seed in 0..5 {
        world.upload(user, &format!("{seed}"), pattern(seed, 1_000)).await;
    }
    let worker = world.start_worker();
    let draining = world.start_process(&["--json", "store", "drain", "minio", "--wait"]).await;

    assert!(draining.ended().await.success(), "{}", draining.output());

    let document: Value = serde_json::from_str(&draining.stdout()).unwrap();
    assert_eq!(document["drain"]["replicas_total"], 5);
    assert_eq!(document["drain"]["replicas_left"], 0);
    assert!(document["drain"]["finished_at"].is_string(), "{document}");
    let list = world.start_process(&["store", "list"]).await;
    assert!(list.ended().await.success(), "{}", list.output());
    assert!(list.stdout().contains("drained") && list.stdout().contains("5 present"), "{}", list.output());
    let undrain = world.start_process(&["store", "undrain", "minio"]).await;
    assert!(undrain.ended().await.success(), "{}", undrain.output());
    assert_eq!(undrain.stdout().trim(), "minio is in use again.");
    worker.stop().await;
    assert_invariants(&world).await;
}
