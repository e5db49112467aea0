//! Lists, details, placement, trash.

use nightferry_tests::harness::api::{answered, problem};
use nightferry_tests::harness::database::{execute_on, texts};
use nightferry_tests::harness::{World, eventually, pattern};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_paged_by_an_opaque_cursor() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    for index in 0..7 {
        ann.upload(&format!("file-{index}"), pattern(index, 10 + index)).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/files?sort=name&order=desc&limit=3".to_owned();
    loop {
        let page = ann.get(&path).await;
        names.extend(page["files"].as_array().unwrap().iter().map(|file| file["filename"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/files?sort=name&order=desc&limit=3&cursor={cursor}");
    }
    assert_eq!(names, (0..7).rev().map(|index| json!(format!("file-{index}"))).collect::<Vec<_>>());

    assert_eq!(ann.get("/api/files?q=E-3").await["files"].as_array().unwrap().len(), 1);
    assert_eq!(ann.get("/api/files?location=s3").await["files"], json!([]));
    assert_eq!(ann.get("/api/files?folder_id=root").await["files"].as_array().unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_query_parameters_return_400_and_never_500() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    for query in [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=abc",
        "sort=colour",
        "order=sideways",
        "cursor=nonsense",
        "cursor=%00",
        "folder_id=nonsense",
        "q=%00",
        "surprise=1",
        "trashed=perhaps",
        "location=%00",
    ] {
        let response = ann.request(Method::GET, &format!("/api/files?{query}")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{query}");
    }
    let page = {
        ann.upload("a", pattern(1, 1)).await;
        ann.upload("b", pattern(1, 1)).await;
        ann.get("/api/files?sort=name&limit=1").await
    };
    let cursor = page["next_cursor"].as_str().unwrap();
    let crossed = ann.request(Method::GET, &format!("/api/files?sort=size&limit=1&cursor={cursor}"));
    problem(crossed, 400, "VALIDATION_FAILED").await;
    for path in ["/api/files/nonsense", "/api/nothing", "/api/files/00000000-0000-0000-0000-000000000000"] {
        problem(ann.request(Method::GET, path), 404, "NOT_FOUND").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_is_in_the_trash_and_its_name_can_be_reused() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a", pattern(1, 10)).await;
    let path = format!("/api/files/{}", file["id"].as_str().unwrap());
    let (status, _) = answered(ann.request(Method::DELETE, &path)).await;
    assert_eq!(status, 204);
    assert_eq!(ann.get("/api/files").await["files"], json!([]));
    let trash = ann.get("/api/files?trashed=true").await;
    assert_eq!(trash["files"][0]["id"], file["id"]);
    assert!(trash["files"][0]["deleted_at"].is_string());
    problem(ann.request(Method::GET, &format!("{path}/download")), 404, "NOT_FOUND").await;
    problem(ann.request(Method::DELETE, &path), 404, "NOT_FOUND").await;
    let again = ann.upload("a", pattern(2, 20)).await;
    assert_ne!(again["id"], file["id"]);

    let (status, _) = answered(ann.request(Method::DELETE, &format!("{path}?permanent=true"))).await;
    assert_eq!(status, 204);
    assert_eq!(ann.get("/api/files?trashed=true").await["files"], json!([]));
    assert_eq!(ann.get("/api/auth/me").await["used_bytes"], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn placement_says_where_a_file_is_and_what_happens_next() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a", pattern(1, 10)).await;
    let path = format!("/api/files/{}/placement", file["id"].as_str().unwrap());
    let before = ann.get(&path).await;
    assert_eq!(
        (&before["replicas"][0]["store"], &before["replicas"][0]["state"]),
        (&json!("minio"), &json!("present"))
    );
    assert_eq!(before["next"]["action"], "copy");
    assert!(before["next"]["at"].is_string(), "{before}");

    let (status, queued) =
        answered(ann.request(Method::POST, &format!("/api/files/{}/sync", file["id"].as_str().unwrap())))
            .await;
    assert_eq!(status, 202);
    let worker = world.start_worker();
    world.ended(queued["run_id"].as_str().unwrap().parse().unwrap()).await;
    worker.stop().await;
    let after = ann.get(&path).await;
    assert_eq!(after["replicas"].as_array().unwrap().len(), 2);
    assert_eq!(after["next"]["action"], "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_renamed_moved_and_pinned_by_one_request_of_its_owner() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.txt", pattern(1, 10)).await;
    ann.upload("b.txt", pattern(2, 10)).await;
    let path = format!("/api/files/{}", file["id"].as_str().unwrap());
    assert_eq!(file["pinned"], false);
    let change = |body| ann.request(Method::PATCH, &path).json(&body);

    let (status, changed) =
        answered(change(json!({ "filename": " c.txt ", "folder_id": "root", "pinned": true }))).await;
    assert_eq!(
        (status.as_u16(), &changed["filename"], &changed["pinned"]),
        (200, &json!("c.txt"), &json!(true))
    );
    assert_eq!(changed["sha256"], file["sha256"]);
    assert_eq!(ann.get(&path).await["pinned"], true);
    let (_, unpinned) = answered(change(json!({ "pinned": false }))).await;
    assert_eq!((&unpinned["filename"], &unpinned["pinned"]), (&json!("c.txt"), &json!(false)));

    problem(change(json!({ "filename": "b.txt" })), 409, "NAME_TAKEN").await;
    problem(change(json!({ "filename": "../b" })), 400, "VALIDATION_FAILED").await;
    problem(change(json!({ "surprise": 1 })), 400, "VALIDATION_FAILED").await;
    problem(change(json!({ "folder_id": "nonsense" })), 400, "VALIDATION_FAILED").await;
    problem(change(json!({ "folder_id": uuid::Uuid::now_v7() })), 404, "NOT_FOUND").await;
    let bob = api.person().await;
    let foreign = bob.request(Method::PATCH, &path).json(&json!({ "pinned": true }));
    problem(foreign, 404, "NOT_FOUND").await;
    assert_eq!(ann.get(&path).await["pinned"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_trash_cannot_be_changed() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.txt", pattern(1, 10)).await;
    let path = format!("/api/files/{}", file["id"].as_str().unwrap());
    let (status, _) = answered(ann.request(Method::DELETE, &path)).await;
    assert_eq!(status, 204);
    problem(ann.request(Method::PATCH, &path).json(&json!({ "pinned": true })), 404, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_be_purged_while_its_next_version_is_recorded() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("a.txt", pattern(1, 1000)).await;
    let id = file["id"].as_str().unwrap();
    let wait = async |most: usize| {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                   WHERE NOT l.granted AND a.datname = current_database()";
        eventually("they wait for locks", async || {
            let waiting: usize = texts(&world.context.db, sql).await[0].parse().unwrap();
            (waiting >= most).then_some(())
        })
        .await;
    };
    let mut holder = world.context.db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    execute_on(&mut holder, &format!("SELECT 1 FROM files WHERE id = '{id}' FOR UPDATE")).await;

    let purge = answered(ann.request(Method::DELETE, &format!("/api/files/{id}?permanent=true")));
    let upload = async {
        wait(1).await;
        let upload = answered(ann.upload_request(&[], "a.txt", pattern(2, 500).bytes()));
        let release = async {
            wait(2).await;
            execute_on(&mut holder, "COMMIT").await;
        };
        tokio::join!(upload, release).0
    };
    let (purged, uploaded) = tokio::join!(purge, upload);

    assert_eq!((purged.0.as_u16(), uploaded.0.as_u16()), (204, 201), "{} {}", purged.1, uploaded.1);
    assert_eq!(ann.get("/api/auth/me").await["used_bytes"], 500);
    assert_eq!(ann.get("/api/files").await["files"][0]["id"], uploaded.1["id"]);
}
