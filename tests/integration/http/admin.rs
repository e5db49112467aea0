//! Administration: runs over HTTP.

use nightferry_core::db::audit::Origin;
use nightferry_core::tiering::run;
use nightferry_tests::harness::api::{answered, problem};
use nightferry_tests::harness::{World, pattern};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_starts_follows_and_reads_runs() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    admin.upload("a", pattern(1, 100)).await;
    let (status, body) = answered(admin.request(Method::POST, "/api/admin/sync")).await;
    assert_eq!(status, 202, "{body}");
    let id = body["run_id"].as_str().unwrap().to_owned();
    problem(admin.request(Method::POST, "/api/admin/sync").json(&json!({})), 409, "SYNC_ALREADY_RUNNING")
        .await;
    let queued = admin.get(&format!("/api/admin/sync/runs/{id}")).await;
    assert_eq!(
        (&queued["status"], &queued["trigger"], &queued["requested_by"]),
        (&json!("queued"), &json!("api"), &json!(admin.id))
    );

    let worker = world.start_worker();
    world.ended(id.parse().unwrap()).await;
    worker.stop().await;

    let ended = admin.get(&format!("/api/admin/sync/runs/{id}")).await;
    assert_eq!(ended["status"], "succeeded");
    assert_eq!(
        (&ended["files_total"], &ended["files_done"], &ended["files_failed"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!((&ended["bytes_total"], &ended["bytes_done"]), (&json!(100), &json!(100)));
    let list = admin.get("/api/admin/sync/runs").await;
    assert_eq!(list["runs"][0]["id"], json!(id));
    assert!(
        admin.get(&format!("/api/admin/sync/runs/{id}/failures")).await["failures"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    problem(admin.request(Method::POST, &format!("/api/admin/sync/runs/{id}/cancel")), 409, "CONFLICT").await;
    problem(admin.request(Method::GET, "/api/admin/sync/runs/nonsense"), 404, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_or_a_plan_of_what_does_not_exist_is_refused() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let (file, trashed) =
        (admin.upload("a", pattern(1, 100)).await, admin.upload("b", pattern(2, 100)).await);
    let gone = format!("/api/files/{}", trashed["id"].as_str().unwrap());
    assert_eq!(answered(admin.request(Method::DELETE, &gone)).await.0, 204);
    let stranger = uuid::Uuid::now_v7();
    for (scope, noun) in [
        (json!({ "user_id": stranger }), "user"),
        (json!({ "folder_id": stranger }), "folder"),
        (json!({ "file_ids": [file["id"], stranger] }), "file"),
        (json!({ "file_ids": [trashed["id"], file["id"]] }), "file"),
    ] {
        for path in ["/api/admin/sync", "/api/admin/sync/plan"] {
            let refused = problem(admin.request(Method::POST, path).json(&scope), 404, "NOT_FOUND").await;
            assert!(
                refused["detail"].as_str().unwrap().starts_with(&format!("There is no {noun} ")),
                "{refused}"
            );
        }
    }
    assert_eq!(admin.get("/api/admin/sync/runs").await["runs"], json!([]));

    let folder = stranger.to_string();
    let asked = world.start_process(&["--json", "sync", "run", "--folder", &folder]).await;
    assert_eq!(asked.ended().await.code(), Some(3), "{}", asked.output());
    let document: serde_json::Value = serde_json::from_str(&asked.stdout()).unwrap();
    assert_eq!(document["error"]["kind"], "not_found");
    assert!(document["error"]["reason"].as_str().unwrap().contains(&folder), "{document}");

    let scope = json!({ "user_id": admin.id, "folder_id": file["folder_id"], "file_ids": [file["id"]] });
    let (status, body) = answered(admin.request(Method::POST, "/api/admin/sync").json(&scope)).await;
    assert_eq!(status, 202, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_over_http() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    admin.upload("a", pattern(1, 100)).await;
    let (_, body) =
        answered(admin.request(Method::POST, "/api/admin/sync").json(&json!({ "user_id": admin.id }))).await;
    let id = body["run_id"].as_str().unwrap().to_owned();
    let (status, run) =
        answered(admin.request(Method::POST, &format!("/api/admin/sync/runs/{id}/cancel"))).await;
    assert_eq!((status.as_u16(), &run["status"]), (200, &json!("cancelled")), "{run}");
    let again = run::cancel(&world.context, id.parse().unwrap(), None, &Origin::default()).await;
    assert!(again.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_are_not_administrators_are_rejected() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    for (method, path) in [
        (Method::POST, "/api/admin/sync"),
        (Method::GET, "/api/admin/sync/runs"),
        (Method::GET, "/api/admin/sync/runs/0190a0a0-0000-7000-8000-000000000000"),
        (Method::POST, "/api/admin/sync/runs/0190a0a0-0000-7000-8000-000000000000/cancel"),
        (Method::GET, "/api/admin/sync/runs/0190a0a0-0000-7000-8000-000000000000/failures"),
    ] {
        problem(ann.request(method.clone(), path), 403, "FORBIDDEN").await;
        problem(api.request(method, path), 401, "UNAUTHENTICATED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_makes_reads_and_executes_a_plan() {
    let world =
        World::with("policy.rules.1.name", "tiny").set("policy.rules.1.max_size", "100B").build().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    for seed in 0..3 {
        admin.upload(&format!("{seed}"), pattern(seed, 100 * (seed + 1))).await;
    }
    let (status, plan) = answered(admin.request(Method::POST, "/api/admin/sync/plan")).await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!((&plan["files"], &plan["bytes"], &plan["requests"]), (&json!(3), &json!(600), &json!(3)));
    assert_eq!((&plan["monthly_cost"], &plan["currency"]), (&json!(null), &json!("USD")));
    let rules: Vec<_> =
        plan["rules"].as_array().unwrap().iter().map(|rule| (&rule["rule"], &rule["files"])).collect();
    assert_eq!(rules, [(&json!("default"), &json!(2)), (&json!("tiny"), &json!(1))]);
    assert_eq!(plan["items"].as_array().unwrap().len(), 3);
    let id = plan["plan_id"].as_str().unwrap().to_owned();

    let mut pages = Vec::new();
    let mut address = format!("/api/admin/sync/plans/{id}?limit=2");
    loop {
        let page = admin.get(&address).await;
        pages.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        address = format!("/api/admin/sync/plans/{id}?limit=2&cursor={cursor}");
    }
    assert_eq!(json!(pages), plan["items"]);

    let with_more = json!({ "plan_id": id, "retry_failed": true });
    problem(admin.request(Method::POST, "/api/admin/sync").json(&with_more), 400, "VALIDATION_FAILED").await;
    let removed = pages[0]["file_id"].as_str().unwrap();
    admin.request(Method::DELETE, &format!("/api/files/{removed}")).send().await.unwrap();
    let refused = problem(
        admin.request(Method::POST, "/api/admin/sync").json(&json!({ "plan_id": id })),
        409,
        "CONFLICT",
    )
    .await;
    assert_eq!(refused["errors"][0]["field"], json!(removed));

    let (_, plan) = answered(admin.request(Method::POST, "/api/admin/sync/plan")).await;
    let accepted =
        admin.request(Method::POST, "/api/admin/sync").json(&json!({ "plan_id": plan["plan_id"] }));
    let (status, body) = answered(accepted).await;
    assert_eq!(status, 202, "{body}");
    let worker = world.start_worker();
    let ended = world.ended(body["run_id"].as_str().unwrap().parse().unwrap()).await;
    worker.stop().await;
    assert_eq!((ended.files_total, ended.files_done), (2, 2));
    problem(admin.request(Method::GET, "/api/admin/sync/plans/nonsense"), 404, "NOT_FOUND").await;
    let person = api.person().await;
    problem(person.request(Method::POST, "/api/admin/sync/plan"), 403, "FORBIDDEN").await;
}
