//! Percent-encoded paths are the same paths.

use nightferry_tests::harness::World;
use nightferry_tests::harness::api::answered;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_path_counts_as_its_decoded_route() {
    let world = World::with("limits.auth_requests_per_minute", "6").build().await;
    let api = world.start_api();
    let mut refused = 0;
    for path in ["/api/%61uth/refresh", "/%61pi/auth/refresh", "/api/aut%68/refresh", "/api/auth/%72efresh"] {
        for _ in 0..3 {
            let body = json!({ "refresh_token": "nonsense" });
            let (status, _) = answered(api.request(Method::POST, path).json(&body)).await;
            assert!(status == 401 || status == 429, "{path}: {status}");
            refused += usize::from(status == 429);
        }
    }
    // Twelve requests were sent, six are permitted at once, and a slow test permits a few more.
    assert!((4..=6).contains(&refused), "{refused}");
    for _ in 0..20 {
        assert_eq!(api.request(Method::GET, "/%68ealth").send().await.unwrap().status(), 200);
    }
}
