//! A store that may not be the one that the database knows is reported at start, on the command line, by readiness and
//! by metrics.

use nightferry_core::object::identity;
use nightferry_core::store::ObjectKey;
use nightferry_tests::harness::api::{answered, problem};
use nightferry_tests::harness::{World, WorldBuilder, pattern};
use reqwest::Method;
use serde_json::json;

async fn lose_marker(world: &World, store: &str) {
    world.direct.get(store).unwrap().delete(&ObjectKey::of_identity()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_starts_with_two_stores_in_one_bucket_and_no_run_waits_for_one() {
    let mut world = World::new().await;
    world.configure_one_bucket().await;
    for command in
        [["worker"].as_slice(), &["sync", "run", "--wait"], &["sync", "retry"], &["store", "drain", "minio"]]
    {
        let process = world.start_process(command).await;
        assert_eq!(process.ended().await.code(), Some(2), "{}", process.output());
        assert!(process.output().contains("have the same bucket"), "{}", process.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_serves_with_two_stores_in_one_bucket_and_says_so() {
    let mut world = World::new().await;
    world.configure_one_bucket().await;
    let api = world.start_process(&["serve"]).await;
    api.says("Serving http").await;
    assert!(api.output().contains("have the same bucket"), "{}", api.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_refuses_work_for_the_worker_with_two_stores_in_one_bucket() {
    let mut world = World::new().await;
    let owner = world.user().await;
    let file = world.upload(owner, "a", pattern(1, 5)).await;
    world.configure_one_bucket().await;
    identity::check_all(&world.context).await;
    let api = world.start_api();
    let admin = api.admin(&world).await;

    let of_file = format!("/api/files/{}/sync", file.row.id);
    for path in ["/api/admin/sync", "/api/admin/stores/minio/drain", "/api/admin/stores/rebalance", &of_file]
    {
        let refused = problem(admin.request(Method::POST, path), 409, "CONFLICT").await;
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("have the same bucket") && detail.contains("stores.s3"), "{path}: {detail}");
    }
    assert_eq!(admin.get("/api/admin/sync/runs").await["runs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_with_a_store_in_doubt() {
    let world = World::new().await;
    lose_marker(&world, "s3").await;
    let worker = world.start_worker_process().await;
    worker.says("Running syncs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn store_check_compares_identities() {
    let mut world = World::new().await;
    let (code, document) = world.json_command(&["store", "check"]).await;
    assert_eq!((code, &document["ok"]), (0, &json!(true)), "{document}");
    for store in document["stores"].as_array().unwrap() {
        assert_eq!((&store["identity"], &store["warnings"]), (&json!("ok"), &json!([])), "{document}");
        assert_eq!(store["steps"].as_array().unwrap().last().unwrap()["step"], "identity");
    }

    lose_marker(&world, "s3").await;
    let (code, document) = world.json_command(&["store", "check", "s3"]).await;
    let s3 = &document["stores"][0];
    assert_eq!((code, &s3["ok"], &s3["identity"]), (1, &json!(false), &json!("missing")), "{document}");
    assert!(s3["fix"].as_str().unwrap().contains("store accept s3"), "{document}");

    world.configure_one_bucket().await;
    let (code, document) = world.json_command(&["store", "check"]).await;
    assert_eq!((code, &document["stores"][1]["identity"]), (1, &json!("shared")), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_check_finds_one_bucket_before_the_first_start() {
    let mut world = World::new().await;
    nightferry_tests::harness::database::execute(&world.context.db, "DELETE FROM store_identities")
        .await
        .unwrap();
    lose_marker(&world, "minio").await;
    world.configure_one_bucket().await;

    let (code, document) = world.json_command(&["store", "check"]).await;

    let identities = [&document["stores"][0]["identity"], &document["stores"][1]["identity"]];
    assert_eq!((code, identities), (1, [&json!("ok"), &json!("shared")]), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_accept_shows_the_doubt_and_ends_it_only_with_apply() {
    let world = World::new().await;
    lose_marker(&world, "s3").await;

    let (code, shown) = world.json_command(&["store", "accept", "s3"]).await;
    assert_eq!(
        (code, &shown["identity"], &shown["accepted"]),
        (0, &json!("missing"), &json!(false)),
        "{shown}"
    );
    assert_eq!(world.direct.get("s3").unwrap().identity().await.unwrap(), None, "nothing was changed");

    let (code, done) = world.json_command(&["store", "accept", "s3", "--apply"]).await;
    assert_eq!((code, &done["identity"], &done["accepted"]), (0, &json!("ok"), &json!(true)), "{done}");
    let (code, _) = world.json_command(&["store", "check"]).await;
    assert_eq!(code, 0);
    let (code, _) = world.json_command(&["store", "accept", "nowhere", "--apply"]).await;
    assert_eq!(code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_metrics_report_a_store_in_doubt() {
    // Metrics belong to the process of all tests, so the store has a name of its own.
    let world = WorldBuilder::default().another_cloud("doubted").build().await;
    let api = world.start_api();
    let (_, ready) = answered(api.request(Method::GET, "/health/ready")).await;
    assert_eq!(ready["checks"].get("identity"), None, "{ready}");
    lose_marker(&world, "doubted").await;
    identity::check_all(&world.context).await;

    let ready = nightferry_tests::harness::eventually("readiness reports it", || async {
        let (status, ready) = answered(api.request(Method::GET, "/health/ready")).await;
        assert_eq!(status, 200, "{ready}");
        (ready["status"] == "degraded").then_some(ready)
    })
    .await;

    assert_eq!(ready["checks"]["identity"], json!({ "doubted": "missing" }), "{ready}");
    assert_eq!(ready["checks"]["stores"]["doubted"], "ok", "it responds");
    let metrics = api.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let needed = "nightferry_store_identity_ok{store=\"doubted\",role=\"cloud\"} 0";
    assert!(metrics.contains(needed), "{needed} is missing in\n{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn store_check_warns_of_a_local_bucket_that_keeps_versions() {
    let world = WorldBuilder::default().in_memory().build().await;
    world.memory.as_ref().unwrap()[0].keep_versions();

    let (code, document) = world.json_command(&["store", "check"]).await;

    let (local, cloud) = (&document["stores"][0], &document["stores"][1]);
    assert_eq!(
        (code, &local["versions"], &cloud["versions"]),
        (0, &json!(true), &json!(false)),
        "{document}"
    );
    assert!(local["warnings"][0].as_str().unwrap().contains("keeps versions"), "{document}");
    let warnings = cloud["warnings"].as_array().unwrap();
    assert!(!warnings.iter().any(|it| it.as_str().unwrap().contains("keeps versions")), "{document}");
}
