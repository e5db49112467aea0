//! Administration: accounts over HTTP, and quotas.

use std::collections::BTreeSet;

use nightferry_core::auth::administration::{self, Change};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::UserRole;
use nightferry_tests::harness::api::{PASSWORD, answered, problem};
use nightferry_tests::harness::{World, database, pattern};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_creates_finds_and_changes_accounts() {
    let world = World::with("auth.signup", "true").build().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let new =
        json!({ "email": " Bob@Example.org ", "password": PASSWORD, "name": "Bob", "quota_bytes": 1000 });
    let response = admin.request(Method::POST, "/api/admin/users").json(&new).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = response.json().await.unwrap();
    assert_eq!(
        (&made["email"], &made["role"], &made["quota_bytes"], &made["disabled"]),
        (&json!("Bob@Example.org"), &json!("user"), &json!(1000), &json!(false))
    );
    assert_eq!(admin.get(&location).await, made);
    problem(admin.request(Method::POST, "/api/admin/users").json(&new), 409, "EMAIL_TAKEN").await;
    let wrong = json!({ "email": "x", "password": "y", "quota_bytes": -1 });
    let body =
        problem(admin.request(Method::POST, "/api/admin/users").json(&wrong), 400, "VALIDATION_FAILED").await;
    assert_eq!(body["errors"].as_array().unwrap().len(), 3, "{body}");

    let patch = async |change: Value| {
        let (status, body) = answered(admin.request(Method::PATCH, &location).json(&change)).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    assert_eq!(patch(json!({ "role": "admin" })).await["role"], "admin");
    let unchanged = patch(json!({})).await;
    assert_eq!((&unchanged["role"], &unchanged["quota_bytes"]), (&json!("admin"), &json!(1000)));
    assert_eq!(patch(json!({ "quota_bytes": null })).await["quota_bytes"], json!(null));
    let bob = api.login("bob@example.org").await;
    assert_eq!(bob.get("/api/auth/me").await["role"], "admin");
    patch(json!({ "role": "user" })).await;
    problem(bob.request(Method::GET, "/api/admin/users"), 403, "FORBIDDEN").await;
    for wrong in [
        json!({ "role": "king" }),
        json!({ "quota_bytes": -1 }),
        json!({ "email": "x@y.z" }),
        json!({ "disabled": null, "x": 1 }),
    ] {
        let request = admin.request(Method::PATCH, &location).json(&wrong);
        problem(request, 400, "VALIDATION_FAILED").await;
    }
    let nobody = "/api/admin/users/0190a0a0-0000-7000-8000-000000000000";
    problem(admin.request(Method::GET, nobody), 404, "NOT_FOUND").await;
    problem(admin.request(Method::PATCH, nobody).json(&json!({ "disabled": true })), 404, "NOT_FOUND").await;
    problem(admin.request(Method::GET, "/api/admin/users/nonsense"), 404, "NOT_FOUND").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_listed_in_pages_and_filtered() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    for index in 0..7 {
        let new = json!({ "email": format!("person{index}@example.com"), "password": PASSWORD, "name": "100% me_too" });
        let (status, _) = answered(admin.request(Method::POST, "/api/admin/users").json(&new)).await;
        assert_eq!(status, 201);
    }
    let all = async |query: &str| {
        let mut seen = Vec::new();
        let mut address = format!("/api/admin/users?limit=3&{query}");
        loop {
            let page = admin.get(&address).await;
            seen.extend(page["users"].as_array().unwrap().iter().map(|user| user["email"].to_string()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            address = format!("/api/admin/users?limit=3&{query}&cursor={cursor}");
        }
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len(), "nobody twice");
        seen
    };
    assert_eq!(all("").await.len(), 8);
    assert_eq!(all("q=PERSON").await.len(), 7);
    assert_eq!(all("q=100%25").await.len(), 7);
    assert_eq!(all("q=me_too").await.len(), 7);
    assert_eq!(all("q=e__oo").await.len(), 0, "wildcards are literal");
    assert_eq!(all("role=admin").await, [format!("\"{}\"", admin.email)]);
    let first = admin.get("/api/admin/users?q=person3").await["users"][0]["id"].as_str().unwrap().to_owned();
    let disable = json!({ "disabled": true });
    answered(admin.request(Method::PATCH, &format!("/api/admin/users/{first}")).json(&disable)).await;
    assert_eq!(all("disabled=true").await, ["\"person3@example.com\""]);
    assert_eq!(all("disabled=false&q=person").await.len(), 6);
    for wrong in ["role=king", "disabled=1", "limit=0", "cursor=x", "x=1"] {
        let response = admin.request(Method::GET, &format!("/api/admin/users?{wrong}")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_administrator_cannot_be_removed_even_concurrently() {
    let world = World::new().await;
    let api = world.start_api();
    let (ann, bob) = (api.admin(&world).await, api.admin(&world).await);
    for change in [json!({ "role": "user" }), json!({ "disabled": true })] {
        for _ in 0..5 {
            // Each demotes the other.
            let take = |from: &str| {
                answered(ann.request(Method::PATCH, &format!("/api/admin/users/{from}")).json(&change))
            };
            let direct = |from: &str| {
                let change = if change.get("role").is_some() {
                    Change::role(UserRole::User)
                } else {
                    Change::disabled(true)
                };
                let (context, id) = (world.context.clone(), from.parse().unwrap());
                async move { administration::change(&context, id, change, None, &Origin::default()).await }
            };
            // Which requests succeed depends on timing; the number does not.
            let _ = tokio::join!(take(&bob.id), direct(&bob.id), direct(&ann.id));
            let left = database::texts(
                &world.context.db,
                "SELECT id FROM users WHERE role = 'admin' AND disabled_at IS NULL",
            )
            .await;
            assert_eq!(left.len(), 1, "{change}");
            let (last, origin) = (left[0].parse().unwrap(), Origin::default());
            let change = Change::disabled(true);
            let refused = administration::change(&world.context, last, change, None, &origin).await;
            assert!(refused.unwrap_err().to_string().contains("last active administrator"));
            database::execute(&world.context.db, "UPDATE users SET role = 'admin', disabled_at = NULL")
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_ends_sessions_at_once_and_they_do_not_come_back() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let ann = api.person().await;
    let set = async |disabled: bool| {
        let request = admin.request(Method::PATCH, &format!("/api/admin/users/{}", ann.id));
        let (status, body) = answered(request.json(&json!({ "disabled": disabled }))).await;
        assert_eq!((status.as_u16(), &body["disabled"]), (200, &json!(disabled)));
    };
    ann.get("/api/auth/me").await;
    set(true).await;
    problem(ann.request(Method::GET, "/api/auth/me"), 401, "TOKEN_REVOKED").await;
    let refresh = || {
        let body = json!({ "refresh_token": ann.refresh_token });
        api.request(Method::POST, "/api/auth/refresh").json(&body)
    };
    problem(refresh(), 401, "TOKEN_REVOKED").await;
    let login = json!({ "email": ann.email, "password": PASSWORD });
    problem(api.request(Method::POST, "/api/auth/login").json(&login), 401, "INVALID_CREDENTIALS").await;
    set(false).await;
    problem(ann.request(Method::GET, "/api/auth/me"), 401, "TOKEN_REVOKED").await;
    problem(refresh(), 401, "TOKEN_REVOKED").await;
    api.login(&ann.email).await.get("/api/auth/me").await;
}

async fn used(world: &World, user: &str) -> i64 {
    let sql = format!("SELECT used_bytes FROM users WHERE id = '{user}'");
    database::texts(&world.context.db, &sql).await[0].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_uploads_never_exceed_the_quota_and_failed_ones_release_their_bytes() {
    const SIZE: u64 = 10_000;
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let id = ann.id.parse().unwrap();
    let quota = async |bytes: Option<i64>| {
        let change = Change::quota(bytes);
        administration::change(&world.context, id, change, None, &Origin::default()).await.unwrap();
    };
    // Quota for seven and a half files.
    quota(Some(75_000)).await;
    let uploads = (0..20_u64).map(|number| {
        // Two of three announce a wrong size, and are rejected after their content was received.
        let hash = "0".repeat(64);
        let fields = if number % 3 == 1 { vec![("sha256", hash.as_str())] } else { Vec::new() };
        let body = pattern(number, SIZE).bytes();
        answered(ann.upload_request(&fields, &format!("file {number}"), body))
    });
    let answers = futures_util::future::join_all(uploads).await;
    let count = |code: &str| answers.iter().filter(|(_, body)| body["error_code"] == code).count();
    let stored = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(stored, 7, "{:?}", answers.iter().map(|(status, _)| status).collect::<Vec<_>>());
    assert_eq!(stored + count("QUOTA_EXCEEDED") + count("CHECKSUM_MISMATCH"), 20);
    assert_eq!(used(&world, &ann.id).await, 70_000);

    // An upload that is interrupted is never counted.
    let broken = futures_util::stream::iter([
        Ok(pattern(99, 4_000).bytes()),
        Err(std::io::Error::other("the client has disconnected")),
    ]);
    let body = reqwest::Body::wrap_stream(broken);
    assert!(ann.upload_request(&[], "broken", body).send().await.is_err());
    assert_eq!(used(&world, &ann.id).await, 70_000);

    // Lowering a quota deletes nothing and allows no upload; deletions reduce the usage exactly.
    quota(Some(15_000)).await;
    let more = ann.upload_request(&[], "more", pattern(1, 1).bytes());
    let refused = problem(more, 413, "QUOTA_EXCEEDED").await;
    assert!(refused["detail"].as_str().unwrap().contains("15000"), "{refused}");
    let files: Vec<Value> = ann.get("/api/files?limit=200").await["files"].as_array().unwrap().clone();
    for (gone, file) in files.iter().enumerate() {
        let path = format!("/api/files/{}?permanent=true", file["id"].as_str().unwrap());
        let (status, body) = answered(ann.request(Method::DELETE, &path)).await;
        assert_eq!(status, 204, "{body}");
        assert_eq!(used(&world, &ann.id).await, 70_000 - 10_000 * (i64::try_from(gone).unwrap() + 1));
    }
    assert_eq!(used(&world, &ann.id).await, 0);
    assert_eq!(ann.upload("fits", pattern(1, SIZE)).await["file_size"], 10_000);
    quota(None).await;
    ann.upload("any", pattern(2, 100_000)).await;
    assert_eq!(used(&world, &ann.id).await, 110_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_fit_is_rejected_before_its_transfer() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let change = Change::quota(Some(1_000));
    administration::change(&world.context, ann.id.parse().unwrap(), change, None, &Origin::default())
        .await
        .unwrap();
    problem(ann.upload_request(&[], "large", pattern(1, 1_000_000).bytes()), 413, "QUOTA_EXCEEDED").await;
    let sent = database::texts(&world.context.db, "SELECT count(*) FROM objects").await;
    assert_eq!(sent, ["0"], "nothing of it was started");
}
