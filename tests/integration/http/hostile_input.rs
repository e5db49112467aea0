//! Malformed and hostile input.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nightferry_tests::harness::World;
use nightferry_tests::harness::api::{answered, problem};
use reqwest::{Method, multipart};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn values_invalid_in_the_database_are_rejected_before_a_query() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    for method in [Method::POST, Method::DELETE] {
        problem(admin.request(method, "/api/admin/stores/%00/drain"), 404, "NOT_FOUND").await;
    }
    let (_, plan) = answered(admin.request(Method::POST, "/api/admin/sync/plan")).await;
    let path = format!("/api/admin/sync/plans/{}", plan["plan_id"].as_str().unwrap());
    let id = uuid::Uuid::now_v7();
    for (path, position) in [
        (path.as_str(), json!({ "object": id, "store": "\0" })),
        ("/api/admin/audit", json!({ "at": "-262143-01-01T00:00:00Z", "id": id })),
        ("/api/admin/audit", json!({ "at": "+262142-12-31T00:00:00Z", "id": id })),
    ] {
        let cursor = URL_SAFE_NO_PAD.encode(position.to_string());
        let request = admin.request(Method::GET, path).query(&[("cursor", &cursor)]);
        let refused = problem(request, 400, "VALIDATION_FAILED").await;
        assert_eq!(refused["errors"][0]["field"], "cursor", "{position}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_type_that_is_invalid_in_a_header_is_detected_from_the_file() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    for (said, kept) in [
        ("text/plain; title=\"Übersicht\"", "text/markdown"),
        ("text/plain; title=\"overview\"", "text/plain; title=\"overview\""),
    ] {
        let part = multipart::Part::bytes(b"bytes".to_vec()).file_name("a.md").mime_str(said).unwrap();
        let form = multipart::Form::new().part("file", part);
        let (status, file) = answered(ann.request(Method::POST, "/api/files/upload").multipart(form)).await;
        assert_eq!((status.as_u16(), file["content_type"].as_str()), (201, Some(kept)), "{file}");
        assert_eq!(ann.download(&file["id"]).await, "bytes");
    }
}
