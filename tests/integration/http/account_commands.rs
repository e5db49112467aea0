//! The operator's commands for sessions, tokens and signing keys, as separate processes next to a running API.

use nightferry_tests::harness::World;
use nightferry_tests::harness::api::{answered, problem};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_lists_and_revokes_tokens() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let create =
        ["token", "create", &ann.email, "--name", "ci", "--scope", "files:read", "--expires-in", "90d"];
    let (code, made) = world.json_command(&create).await;
    assert_eq!((code, &made["scopes"]), (0, &json!(["files:read"])), "{made}");
    let token = made["token"].as_str().unwrap();
    let files = || api.request(Method::GET, "/api/files").bearer_auth(token);
    assert_eq!(answered(files()).await.0, 200);
    let (code, listed) = world.json_command(&["token", "list", &ann.email]).await;
    assert_eq!(
        (code, &listed["tokens"][0]["state"], &listed["tokens"][0]["name"]),
        (0, &json!("active"), &json!("ci"))
    );
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.json_command(&["token", "revoke", id]).await.0, 0);
    problem(files(), 401, "TOKEN_REVOKED").await;
    assert_eq!(world.json_command(&["token", "revoke", id]).await.0, 3);
    let admin = ["token", "create", &ann.email, "--name", "ci", "--scope", "admin"];
    assert_eq!(world.json_command(&admin).await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_and_ends_sessions() {
    let world = World::new().await;
    let api = world.start_api();
    let first = api.person().await;
    let (second, third) = (api.login(&first.email).await, api.login(&first.email).await);
    let me = |token: &str| api.request(Method::GET, "/api/auth/me").bearer_auth(token);
    let (code, listed) = world.json_command(&["user", "sessions", &first.email]).await;
    let sessions = listed["sessions"].as_array().unwrap();
    assert_eq!((code, sessions.len(), &sessions[0]["ip"]), (0, 3, &json!("127.0.0.1")));
    // Newest first.
    let one = ["user", "revoke", &first.email, "--session", sessions[0]["id"].as_str().unwrap()];
    assert_eq!(world.json_command(&one).await.0, 0);
    problem(me(&third.token), 401, "TOKEN_REVOKED").await;
    assert_eq!(answered(me(&second.token)).await.0, 200);
    let token = first.personal_token(&["sync"]).await;
    let (code, ended) = world.json_command(&["user", "revoke", &first.email, "--tokens"]).await;
    assert_eq!((code, ended), (0, json!({ "sessions": 2, "tokens": 1 })));
    for token in [&first.token, &second.token, &token] {
        problem(me(token), 401, "TOKEN_REVOKED").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_rotates_the_signing_keys() {
    let world = World::with("auth.algorithm", "EdDSA").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let states = |listed: &Value| -> Vec<String> {
        let keys = listed["keys"].as_array().unwrap().iter();
        keys.map(|key| key["state"].as_str().unwrap().to_owned()).collect()
    };
    let list = || world.json_command(&["signing-key", "list"]);
    assert_eq!(states(&list().await.1), ["signs"]);
    let (code, made) = world.json_command(&["signing-key", "rotate"]).await;
    assert_eq!(
        (code, &made["key"]["algorithm"], &made["key"]["state"]),
        (0, &json!("EdDSA"), &json!("published"))
    );
    assert_eq!(states(&list().await.1), ["signs", "published"]);
    assert_eq!(answered(ann.request(Method::GET, "/api/auth/me")).await.0, 200);
    // The former names still work.
    assert_eq!(world.json_command(&["keys", "rotate", "--at-once"]).await.0, 0);
    assert_eq!(states(&list().await.1), ["signs"], "tokens signed by other keys are rejected");
    world.context.clock.advance(chrono::Duration::seconds(31));
    problem(ann.request(Method::GET, "/api/auth/me"), 401, "UNAUTHENTICATED").await;
}
