//! Sign-up, login, refresh, logout and the caller's account.

use nightferry_tests::harness::World;
use nightferry_tests::harness::api::{PASSWORD, answered, problem};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_signs_up_signs_in_and_reads_the_account() {
    let world = World::new().await;
    let api = world.start_api();
    let signup = json!({ "email": "  Ann@Example.org ", "password": PASSWORD, "name": "Ann" });
    let (status, body) = answered(api.request(Method::POST, "/api/auth/signup").json(&signup)).await;
    assert_eq!(status, 201);
    assert_eq!(body["user"]["email"], "Ann@Example.org");
    assert_eq!(body["user_id"], body["user"]["id"]);
    assert!(body["message"].is_string());

    let ann = api.login("aNN@example.ORG").await;
    let me = ann.get("/api/auth/me").await;
    assert_eq!(
        (&me["email"], &me["name"], &me["role"]),
        (&json!("Ann@Example.org"), &json!("Ann"), &json!("user"))
    );
    assert_eq!((&me["used_bytes"], &me["quota_bytes"]), (&json!(0), &json!(null)));
    let (status, renamed) =
        answered(ann.request(Method::PATCH, "/api/auth/me").json(&json!({ "name": "Anna" }))).await;
    assert_eq!((status.as_u16(), &renamed["name"]), (200, &json!("Anna")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_up_errors_are_reported_by_field() {
    let world = World::new().await;
    let api = world.start_api();
    let post = |body| api.request(Method::POST, "/api/auth/signup").json(&body);
    let body =
        problem(post(json!({ "email": "nonsense", "password": "short" })), 400, "VALIDATION_FAILED").await;
    let fields: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["email", "password"]);
    for body in [
        json!({ "email": "a@b.c", "password": "x".repeat(72) }),
        json!({ "email": "a\u{0}@b.org", "password": PASSWORD }),
        json!({ "email": "a@b.org", "password": PASSWORD, "name": "a\u{0}b" }),
        json!({ "email": "a@b.org", "password": PASSWORD, "surprise": true }),
        json!({ "email": 7, "password": PASSWORD }),
        json!({ "password": PASSWORD }),
        json!([]),
    ] {
        let response = post(body.clone()).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
    }
    let garbage =
        api.request(Method::POST, "/api/auth/signup").header("content-type", "application/json").body("{");
    problem(garbage, 400, "BAD_REQUEST").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_address_is_unique_ignoring_case() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let again = json!({ "email": ann.email.to_uppercase(), "password": PASSWORD });
    problem(api.request(Method::POST, "/api/auth/signup").json(&again), 409, "EMAIL_TAKEN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_address_get_the_same_response() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let login = |email: &str, password: &str| {
        api.request(Method::POST, "/api/auth/login").json(&json!({ "email": email, "password": password }))
    };
    let wrong = problem(login(&ann.email, "wrong password"), 401, "INVALID_CREDENTIALS").await;
    let unknown = problem(login("nobody@example.org", "wrong password"), 401, "INVALID_CREDENTIALS").await;
    assert_eq!(wrong["detail"], unknown["detail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_its_theft_ends_the_session() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let refresh =
        |token: &str| api.request(Method::POST, "/api/auth/refresh").json(&json!({ "refresh_token": token }));
    let (status, second) = answered(refresh(&ann.refresh_token)).await;
    assert_eq!(status, 200, "{second}");
    let second = second["refresh_token"].as_str().unwrap();
    // Two concurrent requests: the second is rejected, without further consequences.
    problem(refresh(&ann.refresh_token), 401, "TOKEN_REVOKED").await;
    let (status, third) = answered(refresh(second)).await;
    assert_eq!(status, 200, "{third}");
    // Later, reuse counts as theft: the whole family is revoked.
    world.context.clock.advance(chrono::Duration::seconds(6));
    problem(refresh(second), 401, "REFRESH_REUSED").await;
    problem(refresh(third["refresh_token"].as_str().unwrap()), 401, "TOKEN_REVOKED").await;
    let me = api.request(Method::GET, "/api/auth/me").bearer_auth(third["access_token"].as_str().unwrap());
    problem(me, 401, "TOKEN_REVOKED").await;
    problem(refresh("never issued"), 401, "UNAUTHENTICATED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_of_two_concurrent_refreshes_succeeds() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let refreshes = (0..6).map(|_| {
        let request = json!({ "refresh_token": ann.refresh_token });
        answered(api.request(Method::POST, "/api/auth/refresh").json(&request))
    });
    let answers = futures_util::future::join_all(refreshes).await;
    assert_eq!(answers.iter().filter(|(status, _)| status.is_success()).count(), 1);
    let refused = answers.iter().filter(|(status, _)| !status.is_success());
    assert!(refused.clone().all(|(_, body)| body["error_code"] == "TOKEN_REVOKED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_forged_expired_and_revoked_tokens_are_distinguished() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let me = |token: &str| api.request(Method::GET, "/api/auth/me").bearer_auth(token);
    problem(api.request(Method::GET, "/api/auth/me"), 401, "UNAUTHENTICATED").await;
    problem(me("nonsense"), 401, "UNAUTHENTICATED").await;
    let (head, rest) = ann.token.split_once('.').unwrap();
    let none = {
        use base64::Engine;
        let claims = rest.split_once('.').unwrap().0;
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        format!("{header}.{claims}.")
    };
    problem(me(&none), 401, "UNAUTHENTICATED").await;
    problem(me(&format!("{head}.{rest}x")), 401, "UNAUTHENTICATED").await;

    let bob = api.person().await;
    let (status, _) = answered(bob.request(Method::POST, "/api/auth/logout")).await;
    assert_eq!(status, 204);
    problem(me(&bob.token), 401, "TOKEN_REVOKED").await;
    let refresh = json!({ "refresh_token": bob.refresh_token });
    problem(api.request(Method::POST, "/api/auth/refresh").json(&refresh), 401, "TOKEN_REVOKED").await;

    world.context.clock.advance(chrono::Duration::hours(1));
    problem(me(&ann.token), 401, "TOKEN_EXPIRED").await;
}
