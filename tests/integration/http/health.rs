//! Monitoring: health, readiness, metrics, the OpenAPI document.

use nightferry_tests::harness::api::answered;
use nightferry_tests::harness::{World, pattern};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn liveness_readiness_and_metrics_are_correct() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    ann.upload("a", pattern(1, 100)).await;
    let (status, live) = answered(api.request(Method::GET, "/health")).await;
    assert_eq!((status.as_u16(), live["status"].as_str()), (200, Some("ok")));
    let (status, ready) = answered(api.request(Method::GET, "/health/ready")).await;
    assert_eq!(status, 200, "{ready}");
    assert!(
        ready["checks"]["stores"]["minio"].is_object() || ready["checks"]["stores"]["minio"].is_string(),
        "{ready}"
    );
    let metrics = api.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for needed in [
        "http_requests_total",
        "nightferry_replicas",
        "route=\"/api/files/upload\"",
        "nightferry_store_waiting_workers{store=\"s3\"} 0",
        "nightferry_backlog_seconds 0",
        "nightferry_backlog_exceeds_window 0",
    ] {
        assert!(metrics.contains(needed), "{needed} is missing in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_local_store_the_service_is_not_ready() {
    let world = World::with("stores.minio.connect_timeout", "1s").build().await;
    let api = world.start_api();
    world.local.down().await;
    let (status, ready) = answered(api.request(Method::GET, "/health/ready")).await;
    assert_eq!(status, 503, "{ready}");
    assert_eq!(api.request(Method::GET, "/health").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() {
    let world = World::new().await;
    let api = world.start_api();
    let (status, document) = answered(api.request(Method::GET, "/api/openapi.json")).await;
    assert_eq!(status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert!(document["paths"]["/api/files/upload"]["post"].is_object());
    let page = api.request(Method::GET, "/api/docs/").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("swagger-ui"));
}
