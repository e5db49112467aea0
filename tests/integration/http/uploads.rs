//! Uploads as sent by a real client.

use nightferry_core::tiering::reap;
use nightferry_tests::harness::api::{answered, problem};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::{World, pattern};
use reqwest::{Body, Method, multipart};
use serde_json::json;

const MIB: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_returns_the_documented_file() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let sha = pattern(1, 1000).sha256().to_string();
    let part = multipart::Part::bytes(pattern(1, 1000).bytes().to_vec()).file_name("Übersicht (1).txt");
    let form = multipart::Form::new()
        .text("folder_id", "root")
        .text("sha256", sha.to_uppercase())
        .part("file", part.mime_str("text/plain").unwrap());

    let response = ann.request(Method::POST, "/api/files/upload").multipart(form).send().await.unwrap();

    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let file: serde_json::Value = response.json().await.unwrap();
    let mut keys: Vec<_> = file.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = "access_url content_type created_at deleted_at file_size filename folder_id has_thumbnail id locations \
                    original_filename owner_id pinned scan_status sha256 storage_location synced_at updated_at uploaded_at version";
    assert_eq!(keys.join(" "), expected);
    assert_eq!(file["filename"], "Übersicht (1).txt");
    assert_eq!(file["file_size"], 1000);
    assert_eq!(file["content_type"], "text/plain");
    assert_eq!(file["sha256"], sha);
    assert_eq!(file["version"], 1);
    assert_eq!(file["storage_location"], "minio");
    assert_eq!(file["locations"], json!(["minio"]));
    assert_eq!(file["synced_at"], json!(null));
    assert_eq!(file["owner_id"], ann.id);
    assert!(location.ends_with(file["id"].as_str().unwrap()), "{location}");
    assert!(file["uploaded_at"].as_str().unwrap().ends_with('Z'));
    assert!(
        file["access_url"]
            .as_str()
            .unwrap()
            .ends_with(&format!("/api/files/{}/download", file["id"].as_str().unwrap()))
    );
    assert_eq!(ann.get("/api/auth/me").await["used_bytes"], 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_around_every_threshold_are_stored_exactly_with_and_without_a_length() {
    let world = World::with("uploads.part_size_mib", 8).build().await;
    let api = world.start_api();
    let ann = api.person().await;
    for size in [0, 1, 5 * MIB, 5 * MIB + 20_000, 8 * MIB - 1, 13 * MIB + 1, 30 * MIB] {
        for chunked in [false, true] {
            let body = if chunked {
                Body::wrap_stream(pattern(size, size).stream())
            } else {
                Body::from(pattern(size, size).bytes())
            };
            let (status, file) = answered(ann.upload_request(&[], &format!("{size}-{chunked}"), body)).await;
            assert_eq!(status, 201, "{size} {chunked}: {file}");
            assert_eq!(file["sha256"], pattern(size, size).sha256().to_string(), "{size} {chunked}");
            assert_eq!(ann.download(&file["id"]).await, pattern(size, size).bytes(), "{size} {chunked}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_free_memory_parts_are_passed_through_with_a_trailing_checksum() {
    let world = World::with("uploads.buffer_pool_mib", 8).build().await;
    let api = world.start_api();
    let ann = api.person().await;
    for size in [13 * MIB + 1, 30 * MIB] {
        let file = ann.upload(&size.to_string(), pattern(size, size)).await;
        assert_eq!(file["sha256"], pattern(size, size).sha256().to_string(), "{size}");
        assert_eq!(ann.download(&file["id"]).await, pattern(size, size).bytes(), "{size}");
    }
    assert!(world.local.count(&larger_than_buffered()) >= 1, "no part was streamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_retried_after_a_store_failure_without_the_client_noticing() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let parts = || Match::method(Method::PUT).has_parameter("partNumber");
    let stumble = world.local.add(Fault::status(503, "SlowDown").matching(parts()).times(1));
    let reset = world.local.add(Fault::reset_request_after(MIB).matching(parts()).after(1).times(1));

    let file = ann.upload("large.bin", pattern(7, 30 * MIB)).await;

    assert_eq!((stumble.struck(), reset.struck()), (1, 1));
    assert_eq!(world.local.count(&larger_than_buffered()), 0, "a streamed part cannot be sent again");
    assert_eq!(ann.download(&file["id"]).await, pattern(7, 30 * MIB).bytes());
}

/// Parts larger than any part held in memory.
fn larger_than_buffered() -> Match {
    Match::method(Method::PUT).and(|request| request.request_bytes > 13 * MIB)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_concurrent_uploads_of_one_user_succeed() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let uploads = (0..10).map(|seed| ann.upload("same name.bin", pattern(seed, 300_000 + seed)));
    let files = futures_util::future::join_all(uploads).await;

    // The same name, so they are ten versions of one file.
    let mut versions: Vec<_> = files.iter().map(|file| file["version"].as_i64().unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=10).collect::<Vec<_>>());
    assert!(files.iter().all(|file| file["id"] == files[0]["id"]));
    assert_eq!(ann.get("/api/auth/me").await["used_bytes"], 10 * 300_000 + 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_name_results_in_a_version_a_new_name_or_a_rejection() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let upload = |conflict: &'static str| ann.upload_request(&[("on_conflict", conflict)], "a.txt", "bytes");
    let (_, first) = answered(upload("fail")).await;
    assert_eq!(first["version"], 1);
    problem(upload("fail"), 409, "NAME_TAKEN").await;
    let (_, renamed) = answered(upload("rename")).await;
    assert_eq!((&renamed["filename"], &renamed["version"]), (&json!("a (1).txt"), &json!(1)));
    let (_, version) = answered(upload("version")).await;
    assert_eq!((&version["id"], &version["version"]), (&first["id"], &json!(2)));
    problem(upload("overwrite"), 400, "VALIDATION_FAILED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_uploads_are_rejected_with_a_reason_and_leave_nothing_behind() {
    let world = World::with("server.max_file_size_mib", 1).build().await;
    let api = world.start_api();
    let ann = api.person().await;
    problem(ann.upload_request(&[("sha256", &"0".repeat(64))], "a", "bytes"), 422, "CHECKSUM_MISMATCH").await;
    problem(ann.upload_request(&[("sha256", "xyz")], "a", "bytes"), 400, "VALIDATION_FAILED").await;
    problem(ann.upload_request(&[("folder_id", "nonsense")], "a", "bytes"), 400, "VALIDATION_FAILED").await;
    let stranger = uuid::Uuid::now_v7().to_string();
    problem(ann.upload_request(&[("folder_id", &stranger)], "a", "bytes"), 404, "NOT_FOUND").await;
    for name in ["../../etc/passwd", "a/b", "..", "a\\b"] {
        let request = ann.upload_request(&[], name, "bytes");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400, "{name}");
    }
    problem(ann.upload_request(&[], "large", pattern(1, MIB + 1).bytes()), 413, "FILE_TOO_LARGE").await;
    problem(ann.upload_request(&[], "huge", pattern(1, 40 * MIB).bytes()), 413, "FILE_TOO_LARGE").await;
    let endless = Body::wrap_stream(pattern(1, 3 * MIB).stream());
    problem(ann.upload_request(&[], "endless", endless), 413, "FILE_TOO_LARGE").await;
    let no_file =
        ann.request(Method::POST, "/api/files/upload").multipart(multipart::Form::new().text("sha256", "x"));
    assert_eq!(no_file.send().await.unwrap().status(), 400);
    let no_form = ann.request(Method::POST, "/api/files/upload").json(&json!({}));
    assert!(no_form.send().await.unwrap().status().is_client_error());
    problem(api.request(Method::POST, "/api/files/upload"), 401, "UNAUTHENTICATED").await;

    assert_eq!(ann.get("/api/files").await["files"], json!([]));
    assert_eq!(ann.get("/api/auth/me").await["used_bytes"], 0);
    reap::pass(&world.context).await.unwrap();
    let store = world.context.stores.local().unwrap();
    assert!(store.list("user-", None, 10).await.unwrap().objects.is_empty());
    assert!(store.list_multipart_uploads("").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_never_exceeded_by_concurrent_uploads() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let sql = format!("UPDATE users SET quota_bytes = 1000 WHERE id = '{}'", ann.id);
    nightferry_tests::harness::database::execute(&world.context.db, &sql).await.unwrap();
    let uploads =
        (0..8).map(|seed| answered(ann.upload_request(&[], &format!("{seed}"), pattern(seed, 300).bytes())));
    let answers = futures_util::future::join_all(uploads).await;

    assert_eq!(answers.iter().filter(|(status, _)| status.as_u16() == 201).count(), 3);
    let refused = answers.iter().filter(|(status, _)| status.as_u16() != 201);
    assert!(refused.clone().all(|(_, body)| body["error_code"] == "QUOTA_EXCEEDED"));
    assert_eq!(ann.get("/api/auth/me").await["used_bytes"], 900);
}
