//! Security headers and CORS.

use nightferry_tests::harness::World;
use nightferry_tests::harness::api::{Api, answered};
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::json;

async fn headers(api: &Api, path: &str) -> HeaderMap {
    api.request(Method::GET, path).send().await.unwrap().headers().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_response_has_security_headers() {
    let world = World::with("server.trusted_proxies", "127.0.0.0/8").build().await;
    let api = world.start_api();
    for path in ["/api/files", "/nowhere", "/health", "/api/openapi.json", "/api/docs/"] {
        let headers = headers(&api, path).await;
        let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let policy = value("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'self'"),
            "{policy}"
        );
        assert_eq!(policy.contains("script-src 'self'"), path.starts_with("/api/docs"), "{path}");
        assert!(!policy.contains("unsafe-eval"), "{policy}");
        for (name, wanted) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(value(name).as_deref(), Some(wanted), "{path} {name}");
        }
        assert_eq!(value("strict-transport-security"), None, "{path}: over plain HTTP it means nothing");
        assert_eq!(value("access-control-allow-origin"), None, "{path}");
    }
    let ann = api.person().await;
    let login = json!({ "email": ann.email, "password": "wrong" });
    let tokens =
        api.request(Method::POST, "/api/auth/login").json(&login).header("x-forwarded-proto", "https");
    let response = tokens.send().await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["strict-transport-security"], "max-age=31536000");
}

async fn preflight(api: &Api, origin: &str) -> Response {
    api.request(Method::OPTIONS, "/api/files")
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization")
        .send()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_configured_origins_may_call() {
    let origin = "https://app.example.org";
    let world =
        World::with("server.cors.allowed_origins", format!("{origin}, http://localhost:3000")).build().await;
    let api = world.start_api();
    let allowed = preflight(&api, origin).await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.headers()["access-control-allow-origin"], origin);
    assert_eq!(allowed.headers()["access-control-allow-credentials"], "true");
    assert_eq!(allowed.headers()["access-control-max-age"], "3600");
    for stranger in
        ["https://evil.example", "https://app.example.org.evil.example", "http://app.example.org", "null"]
    {
        let refused = preflight(&api, stranger).await;
        assert!(!refused.headers().contains_key("access-control-allow-origin"), "{stranger}");
    }
    let call = api.request(Method::GET, "/api/files").header("origin", origin).send().await.unwrap();
    assert_eq!(
        (call.status().as_u16(), &call.headers()["access-control-allow-origin"]),
        (401, &origin.parse().unwrap())
    );
    assert!(call.headers()["vary"].to_str().unwrap().to_lowercase().contains("origin"));
    assert!(call.headers()["access-control-expose-headers"].to_str().unwrap().contains("x-request-id"));
    // A client that is not a browser, or a page of this service, is served as usual.
    let (status, _) = answered(api.request(Method::GET, "/health")).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_origin_excludes_credentials() {
    let world = World::with("server.cors.allowed_origins", "*").build().await;
    let api = world.start_api();
    let answer = preflight(&api, "https://anything.example").await;
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
}
