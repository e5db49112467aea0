//! Personal access tokens: their permissions, and their end.

use chrono::Duration;
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::UserRole;
use nightferry_tests::harness::api::{Api, Person, answered, problem};
use nightferry_tests::harness::{World, database, pattern};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

fn with(api: &Api, token: &str, method: Method, path: &str) -> RequestBuilder {
    api.request(method, path).bearer_auth(token)
}

async fn list(person: &Person<'_>) -> Vec<Value> {
    person.get("/api/auth/tokens").await["tokens"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_limited_to_its_scopes() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.admin(&world).await;
    let file = ann.upload("a", pattern(1, 100)).await;
    let id = file["id"].as_str().unwrap();
    let one_file = format!("/api/files/{id}");
    let acts = [
        ("files:read", Method::GET, "/api/files".to_owned()),
        ("files:read", Method::GET, one_file.clone()),
        ("files:read", Method::GET, format!("{one_file}/download")),
        ("files:read", Method::GET, format!("{one_file}/placement")),
        ("files:write", Method::PATCH, one_file.clone()),
        ("admin", Method::GET, "/api/admin/sync/runs".to_owned()),
        ("sync", Method::POST, format!("{one_file}/sync")),
    ];
    for scope in ["files:read", "files:write", "sync", "admin"] {
        let token = ann.personal_token(&[scope]).await;
        for (needed, method, path) in &acts {
            let request = with(&api, &token, method.clone(), path);
            let request = if method == Method::PATCH { request.json(&json!({})) } else { request };
            let status = request.send().await.unwrap().status();
            let told = format!("{scope}: {method} {path}: {status}");
            assert_eq!(status == 403, *needed != scope, "{told}");
            assert!(status.is_success() || status == 403, "{told}");
        }
        // With any scope, a token can read the account, but only a session can change it.
        assert_eq!(answered(with(&api, &token, Method::GET, "/api/auth/me")).await.0, 200);
        for (method, path) in [
            (Method::PATCH, "/api/auth/me"),
            (Method::POST, "/api/auth/logout"),
            (Method::POST, "/api/auth/logout-all"),
            (Method::POST, "/api/auth/password"),
            (Method::GET, "/api/auth/sessions"),
            (Method::DELETE, "/api/auth/sessions/0190a0a0-0000-7000-8000-000000000000"),
            (Method::GET, "/api/auth/tokens"),
            (Method::POST, "/api/auth/tokens"),
            (Method::DELETE, "/api/auth/tokens/0190a0a0-0000-7000-8000-000000000000"),
        ] {
            problem(with(&api, &token, method, path), 403, "FORBIDDEN").await;
        }
    }
    let both = ann.personal_token(&["files:write", "files:read"]).await;
    assert_eq!(answered(with(&api, &both, Method::GET, "/api/files")).await.0, 200);
    assert_eq!(answered(with(&api, &both, Method::DELETE, &one_file)).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scope_admin_requires_the_administrator_role() {
    let world = World::new().await;
    let api = world.start_api();
    let _stays = api.admin(&world).await;
    let ann = api.person().await;
    let wanted = json!({ "name": "x", "scopes": ["admin"] });
    problem(ann.request(Method::POST, "/api/auth/tokens").json(&wanted), 403, "FORBIDDEN").await;
    let id = ann.id.parse().unwrap();
    administration::change(&world.context, id, Change::role(UserRole::Admin), None, &Origin::default())
        .await
        .unwrap();
    let token = ann.personal_token(&["admin"]).await;
    let runs = || with(&api, &token, Method::GET, "/api/admin/sync/runs");
    assert_eq!(answered(runs()).await.0, 200);
    administration::change(&world.context, id, Change::role(UserRole::User), None, &Origin::default())
        .await
        .unwrap();
    problem(runs(), 403, "FORBIDDEN").await;
    administration::change(&world.context, id, Change::disabled(true), None, &Origin::default())
        .await
        .unwrap();
    problem(runs(), 401, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_stored_hashed_listed_and_revoked() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let wanted = json!({ "name": " backup ", "scopes": ["sync", "files:read", "sync"], "expires_in": 3600 });
    let (status, made) = answered(ann.request(Method::POST, "/api/auth/tokens").json(&wanted)).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("nf_pat_") && token.len() == 56, "{token}");
    assert_eq!((&made["name"], &made["scopes"]), (&json!("backup"), &json!(["files:read", "sync"])));
    let stored = database::texts(&world.context.db, "SELECT row_to_json(t) FROM personal_tokens t").await;
    assert!(!stored[0].contains(&token[7..]), "{stored:?}");

    let rows = list(&ann).await;
    assert_eq!((rows.len(), &rows[0]["id"], rows[0].get("token")), (1, &made["id"], None));
    assert_eq!(rows[0]["last_used_at"], Value::Null);
    let me = || with(&api, token, Method::GET, "/api/auth/me");
    assert_eq!(answered(me()).await.0, 200);
    let noted = list(&ann).await[0]["last_used_at"].clone();
    assert!(noted.is_string());
    // Not one write per request.
    world.context.clock.advance(Duration::minutes(9));
    assert_eq!(answered(me()).await.0, 200);
    assert_eq!(list(&api.login(&ann.email).await).await[0]["last_used_at"], noted);
    world.context.clock.advance(Duration::minutes(2));
    assert_eq!(answered(me()).await.0, 200);
    let ann = api.login(&ann.email).await;
    assert_ne!(list(&ann).await[0]["last_used_at"], noted);

    let address = format!("/api/auth/tokens/{}", made["id"].as_str().unwrap());
    let bob = api.person().await;
    problem(bob.request(Method::DELETE, &address), 404, "NOT_FOUND").await;
    assert_eq!(answered(ann.request(Method::DELETE, &address)).await.0, 204);
    problem(ann.request(Method::DELETE, &address), 404, "NOT_FOUND").await;
    problem(me(), 401, "TOKEN_REVOKED").await;
    assert!(list(&ann).await.is_empty());
    let acts = "SELECT action FROM audit_events WHERE target_type = 'token' ORDER BY id";
    assert_eq!(database::texts(&world.context.db, acts).await, ["token.create", "token.revoke"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_mistyped_unknown_or_expired_are_refused() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let body = json!({ "name": "x", "scopes": ["files:read"], "expires_in": 60 });
    let (_, made) = answered(ann.request(Method::POST, "/api/auth/tokens").json(&body)).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let me = |token: &str| with(&api, token, Method::GET, "/api/auth/me");
    let mut swapped: Vec<char> = token.chars().collect();
    swapped.swap(20, 21);
    let swapped: String = swapped.into_iter().collect();
    let wrong = if swapped == token { "nf_pat_".to_owned() } else { swapped };
    problem(me(&wrong), 401, "UNAUTHENTICATED").await;
    problem(me("nf_pat_"), 401, "UNAUTHENTICATED").await;
    world.context.clock.advance(Duration::seconds(61));
    problem(me(&token), 401, "TOKEN_EXPIRED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn token_creation_errors_are_reported_and_the_number_of_tokens_is_limited() {
    let world = World::with("auth.personal_tokens_per_user", 3).build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let post = |body: Value| ann.request(Method::POST, "/api/auth/tokens").json(&body);
    for (body, field) in [
        (json!({ "name": " ", "scopes": ["sync"] }), "name"),
        (json!({ "name": "x".repeat(101), "scopes": ["sync"] }), "name"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "scopes": ["everything"] }), "scopes"),
        (json!({ "name": "x", "scopes": ["sync"], "expires_in": 59 }), "expires_in"),
        (json!({ "name": "x", "scopes": ["sync"], "owner": "bob" }), "body"),
    ] {
        let refused = problem(post(body), 400, "VALIDATION_FAILED").await;
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    // Also for any number of concurrent requests.
    let asked = (0..6).map(|_| answered(post(json!({ "name": "x", "scopes": ["sync"] }))));
    let answers = futures_util::future::join_all(asked).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 3);
    let refused = answers.iter().filter(|(status, _)| *status != 201);
    assert!(refused.clone().all(|(status, body)| *status == 409 && body["error_code"] == "CONFLICT"));
    assert_eq!(list(&ann).await.len(), 3);
}
