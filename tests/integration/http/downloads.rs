//! Downloads: ranges, conditional requests, names, from any store with the content.

use nightferry_tests::harness::api::problem;
use nightferry_tests::harness::{World, pattern};
use reqwest::Method;
use serde_json::{Value, json};

fn path(file: &Value) -> String {
    format!("/api/files/{}/download", file["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_follow_rfc_9110() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.bin", pattern(1, 1000)).await;
    let whole = pattern(1, 1000).bytes();
    for (range, status, bytes, content_range) in [
        ("bytes=0-9", 206, &whole[..10], "bytes 0-9/1000"),
        ("bytes=990-", 206, &whole[990..], "bytes 990-999/1000"),
        ("bytes=-10", 206, &whole[990..], "bytes 990-999/1000"),
        ("bytes=-5000", 206, &whole[..], "bytes 0-999/1000"),
        ("bytes=500-100000", 206, &whole[500..], "bytes 500-999/1000"),
        ("bytes=9-1", 200, &whole[..], ""),
        ("lines=1-2", 200, &whole[..], ""),
        ("bytes=a-b", 200, &whole[..], ""),
    ] {
        let response = ann.request(Method::GET, &path(&file)).header("range", range).send().await.unwrap();
        assert_eq!(response.status(), status, "{range}");
        let found =
            response.headers().get("content-range").map_or("", |value| value.to_str().unwrap()).to_owned();
        assert_eq!(found, content_range, "{range}");
        assert_eq!(response.headers()["accept-ranges"], "bytes");
        assert_eq!(response.headers()["content-length"], bytes.len().to_string().as_str(), "{range}");
        assert_eq!(response.bytes().await.unwrap(), bytes, "{range}");
    }
    for range in ["bytes=1000-", "bytes=5000-6000", "bytes=-0"] {
        let request = ann.request(Method::GET, &path(&file)).header("range", range);
        let response = request.try_clone().unwrap().send().await.unwrap();
        assert_eq!(response.headers()["content-range"], "bytes */1000", "{range}");
        problem(request, 416, "RANGE_NOT_SATISFIABLE").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditional_requests_save_transfers() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.bin", pattern(1, 100)).await;
    let get = || ann.request(Method::GET, &path(&file));
    let first = get().send().await.unwrap();
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    let modified = first.headers()["last-modified"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{}\"", file["sha256"].as_str().unwrap()));

    assert_eq!(get().header("if-none-match", &etag).send().await.unwrap().status(), 304);
    assert_eq!(get().header("if-none-match", "*").send().await.unwrap().status(), 304);
    assert_eq!(get().header("if-none-match", format!("\"x\", W/{etag}")).send().await.unwrap().status(), 304);
    assert_eq!(get().header("if-none-match", "\"other\"").send().await.unwrap().status(), 200);
    assert_eq!(get().header("if-modified-since", &modified).send().await.unwrap().status(), 304);
    problem(get().header("if-match", "\"other\""), 412, "PRECONDITION_FAILED").await;
    assert_eq!(get().header("if-match", &etag).send().await.unwrap().status(), 200);
    let ranged =
        |condition: &str| get().header("range", "bytes=0-4").header("if-range", condition.to_owned());
    assert_eq!(ranged(&etag).send().await.unwrap().status(), 206);
    assert_eq!(ranged("\"other\"").send().await.unwrap().status(), 200);
    let head = ann.request(Method::HEAD, &path(&file)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"100".parse().unwrap()));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_work_before_and_after_the_sync_and_with_either_store_down() {
    let world = World::with("stores.minio.connect_timeout", "1s")
        .set("stores.minio.idle_timeout", "2s")
        .build()
        .await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.bin", pattern(1, 3_000_000)).await;
    assert_eq!(ann.download(&file["id"]).await, pattern(1, 3_000_000).bytes());
    let worker = world.start_worker();
    world.sync().await;
    worker.stop().await;
    let now = ann.get(&format!("/api/files/{}", file["id"].as_str().unwrap())).await;
    assert_eq!((&now["storage_location"], &now["locations"]), (&json!("s3"), &json!(["minio", "s3"])));
    assert!(now["synced_at"].is_string());

    assert_eq!(ann.download(&file["id"]).await, pattern(1, 3_000_000).bytes());
    world.local.down().await;
    assert_eq!(ann.download(&file["id"]).await, pattern(1, 3_000_000).bytes(), "from the cloud");
    world.local.up().await;
    world.cloud.down().await;
    assert_eq!(ann.download(&file["id"]).await, pattern(1, 3_000_000).bytes(), "from the local store");
    world.local.down().await;
    problem(ann.request(Method::GET, &path(&file)), 503, "STORE_UNAVAILABLE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_stay_readable_and_names_in_any_script_are_preserved() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("日本語 \"quoted\".txt", pattern(1, 10)).await;
    ann.upload("日本語 \"quoted\".txt", pattern(2, 20)).await;
    let get = |query: &str| ann.request(Method::GET, &format!("{}{query}", path(&file)));
    assert_eq!(get("?version=1").send().await.unwrap().bytes().await.unwrap(), pattern(1, 10).bytes());
    assert_eq!(get("?version=2").send().await.unwrap().bytes().await.unwrap(), pattern(2, 20).bytes());
    problem(get("?version=3"), 404, "NOT_FOUND").await;
    problem(get("?version=x"), 400, "VALIDATION_FAILED").await;
    let disposition =
        get("").send().await.unwrap().headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("attachment;"), "{disposition}");
    assert!(
        disposition.contains("filename*=UTF-8''%E6%97%A5%E6%9C%AC%E8%AA%9E%20%22quoted%22.txt"),
        "{disposition}"
    );
    let inline = get("?disposition=inline").send().await.unwrap();
    assert!(inline.headers()["content-disposition"].to_str().unwrap().starts_with("inline;"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_presigned_link_reads_straight_from_the_store_without_credentials() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.bin", pattern(1, 1000)).await;
    let link = format!("/api/files/{}/download-url", file["id"].as_str().unwrap());
    let (status, body) = nightferry_tests::harness::api::answered(
        ann.request(Method::POST, &link).json(&json!({ "expires_in": 60 })),
    )
    .await;
    assert_eq!(status, 200, "{body}");
    assert!(body["expires_at"].is_string());
    let direct = reqwest::get(body["url"].as_str().unwrap()).await.unwrap();
    assert_eq!(direct.status(), 200);
    assert_eq!(direct.bytes().await.unwrap(), pattern(1, 1000).bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_accounts_are_not_found() {
    let world = World::new().await;
    let api = world.start_api();
    let (ann, bob) = (api.person().await, api.person().await);
    let file = ann.upload("secret", pattern(1, 10)).await;
    let id = file["id"].as_str().unwrap();
    for (method, path) in [
        (Method::GET, format!("/api/files/{id}")),
        (Method::DELETE, format!("/api/files/{id}")),
        (Method::GET, format!("/api/files/{id}/download")),
        (Method::GET, format!("/api/files/{id}/placement")),
        (Method::POST, format!("/api/files/{id}/sync")),
    ] {
        problem(bob.request(method, &path), 404, "NOT_FOUND").await;
    }
    let link = format!("/api/files/{id}/download-url");
    problem(bob.request(Method::POST, &link).json(&json!({})), 404, "NOT_FOUND").await;
    assert_eq!(bob.get("/api/files").await["files"], json!([]));
}
