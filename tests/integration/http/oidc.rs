//! Sign-in with an identity provider that runs in the test, with all kinds of invalid responses.

use std::collections::BTreeMap;

use chrono::Duration;
use jsonwebtoken::Algorithm;
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::db::audit::Origin;
use nightferry_tests::harness::api::{Api, PASSWORD, answered, cookies, problem};
use nightferry_tests::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProvider};
use nightferry_tests::harness::{World, WorldBuilder, database};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

const ACCESS: &str = "__Host-nightferry_access";
const ATTEMPT: &str = "__Host-nightferry_sign_in";

/// A world with `provider` as identity provider.
fn knowing(provider: &OidcProvider) -> WorldBuilder {
    World::with("auth.oidc.home.issuer", provider.issuer())
        .set("auth.oidc.home.client_id", CLIENT_ID)
        .set("auth.oidc.home.client_secret", CLIENT_SECRET)
}

/// A world in which every user of `provider` gets an account.
pub(super) fn with(provider: &OidcProvider) -> WorldBuilder {
    knowing(provider).set("auth.oidc.home.signup", "true")
}

/// A browser during a sign-in: the URL to which the provider redirected it, and the cookie of the attempt.
struct Returning {
    address: String,
    attempt: String,
}

fn location(response: &Response) -> String {
    assert!(response.status().is_redirection(), "{}", response.status());
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// Follows the redirect to the provider and back.
async fn visit(api: &Api, query: &str) -> Returning {
    visit_with(api, "home", query).await
}

async fn visit_with(api: &Api, provider: &str, query: &str) -> Returning {
    let start = format!("/api/auth/oidc/{provider}/start{query}");
    let response = api.request(Method::GET, &start).send().await.unwrap();
    let set = cookies(&response);
    assert_eq!(set[ATTEMPT].1, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let back = location(&client.get(location(&response)).send().await.unwrap());
    let address = back.strip_prefix(&api.base).unwrap().to_owned();
    Returning { address, attempt: set[ATTEMPT].0.clone() }
}

fn callback(api: &Api, address: &str, attempt: &str) -> RequestBuilder {
    api.request(Method::GET, address).header("cookie", format!("{ATTEMPT}={attempt}"))
}

pub(super) async fn sign_in(api: &Api) -> Result<BTreeMap<String, (String, String)>, Value> {
    sign_in_with(api, "home").await
}

/// Signs in with the provider of this name.
pub(super) async fn sign_in_with(
    api: &Api,
    provider: &str,
) -> Result<BTreeMap<String, (String, String)>, Value> {
    let Returning { address, attempt } = visit_with(api, provider, "").await;
    let response = callback(api, &address, &attempt).send().await.unwrap();
    if response.status() == 303 { Ok(cookies(&response)) } else { Err(response.json().await.unwrap()) }
}

pub(super) async fn me(api: &Api, cookies: &BTreeMap<String, (String, String)>) -> Value {
    let request = api.request(Method::GET, "/api/auth/me");
    let (status, me) = answered(request.header("cookie", format!("{ACCESS}={}", cookies[ACCESS].0))).await;
    assert_eq!(status, 200, "{me}");
    me
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_gets_an_account_and_is_recognised_by_the_subject() {
    for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
        let provider = OidcProvider::start(algorithm);
        let world = with(&provider).build().await;
        let api = world.start_api();
        let Returning { address, attempt } = visit(&api, "?return_to=/files%3Ffolder=1").await;
        let response = callback(&api, &address, &attempt).send().await.unwrap();
        assert_eq!(location(&response), "/files?folder=1");
        let set = cookies(&response);
        assert_eq!(set[ATTEMPT].0, "", "the attempt has ended");
        let ann = me(&api, &set).await;
        assert_eq!((&ann["email"], &ann["name"]), (&json!("ann@example.org"), &json!("Ann")));
        assert_eq!(ann["role"], "user");

        // The email address may change while the subject stays the same; and the provider may change its key.
        provider.behave(|it| it.claims = json!({ "email": "new@example.org", "email_verified": false }));
        provider.rotate(algorithm);
        tokio::task::yield_now().await;
        let again = me(&api, &sign_in_after_rotation(&api).await).await;
        assert_eq!(again["id"], ann["id"]);
        assert_eq!(again["email"], "ann@example.org");
        // Sign-in failed until the new key was known.
        let acts = "SELECT action FROM audit_events \
            WHERE action NOT LIKE 'keys.%' AND action <> 'session.login_failed' ORDER BY id";
        assert_eq!(
            database::texts(&world.context.db, acts).await,
            ["user.signup", "identity.link", "session.login", "session.login"]
        );
        // The account has no known password.
        let login = json!({ "email": "ann@example.org", "password": PASSWORD });
        problem(api.request(Method::POST, "/api/auth/login").json(&login), 401, "INVALID_CREDENTIALS").await;
    }
}

/// Keys are reloaded at most once per second: until then the new key is unknown.
async fn sign_in_after_rotation(api: &Api) -> BTreeMap<String, (String, String)> {
    nightferry_tests::harness::eventually("the new key is known", || async { sign_in(api).await.ok() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_not_requested_by_this_browser_is_rejected() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = with(&provider)
        .set("auth.oidc.other.issuer", provider.issuer())
        .set("auth.oidc.other.client_id", "x")
        .build()
        .await;
    let api = world.start_api();
    let mine = visit(&api, "").await;
    let theirs = visit(&api, "").await;
    let refused = |request: RequestBuilder| problem(request, 401, "INVALID_CREDENTIALS");
    // The response for another browser, a response without the cookie, with another state, or from another provider.
    refused(callback(&api, &theirs.address, &mine.attempt)).await;
    refused(api.request(Method::GET, &mine.address)).await;
    refused(callback(&api, &mine.address, "nonsense")).await;
    refused(callback(&api, &mine.address.replace("state=", "state=x"), &mine.attempt)).await;
    refused(callback(&api, &mine.address.replace("state=", "other="), &mine.attempt)).await;
    refused(callback(&api, &mine.address.replace("/home/", "/other/"), &mine.attempt)).await;
    refused(callback(&api, &mine.address.replace("code=", "error="), &mine.attempt)).await;
    refused(callback(&api, &format!("{}&iss=http://evil.example", mine.address), &mine.attempt)).await;
    problem(callback(&api, &mine.address.replace("/home/", "/nobody/"), &mine.attempt), 404, "NOT_FOUND")
        .await;

    let response = callback(&api, &mine.address, &mine.attempt).send().await.unwrap();
    assert_eq!(response.status(), 303, "none of these attempts had an effect");
    // The code was already used.
    refused(callback(&api, &mine.address, &mine.attempt)).await;
    world.context.clock.advance(Duration::minutes(11));
    refused(callback(&api, &theirs.address, &theirs.attempt)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_invalid_id_token_is_rejected() {
    for algorithm in [Algorithm::RS256, Algorithm::EdDSA] {
        let provider = OidcProvider::start(algorithm);
        let world = with(&provider).build().await;
        let api = world.start_api();
        let now = chrono::Utc::now().timestamp();
        for claims in [
            json!({ "nonce": "another" }),
            json!({ "nonce": null }),
            json!({ "iss": "http://evil.example" }),
            json!({ "aud": "somebody else" }),
            json!({ "aud": [CLIENT_ID, "somebody else"] }),
            json!({ "aud": [CLIENT_ID, "somebody else"], "azp": "somebody else" }),
            json!({ "azp": "somebody else" }),
            json!({ "exp": now - 120 }),
            json!({ "iat": now + 600 }),
            json!({ "sub": "" }),
            json!({ "sub": null }),
            json!({ "exp": null }),
        ] {
            provider.behave(|it| it.claims = claims.clone());
            let refused = sign_in(&api).await.expect_err(&format!("{claims}"));
            assert_eq!(refused["error_code"], "INVALID_CREDENTIALS", "{claims} {refused}");
        }
        provider.behave(|it| it.claims = json!({ "aud": [CLIENT_ID, "somebody else"], "azp": CLIENT_ID }));
        assert!(sign_in(&api).await.is_ok());
        provider.behave(|it| it.foreign_key = true);
        assert_eq!(sign_in(&api).await.unwrap_err()["error_code"], "INVALID_CREDENTIALS");
        provider.behave(|it| (it.foreign_key, it.confused) = (false, true));
        assert_eq!(sign_in(&api).await.unwrap_err()["error_code"], "INVALID_CREDENTIALS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_account_is_linked_only_if_verified_and_allowed() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = with(&provider).build().await;
    let api = world.start_api();
    let body = json!({ "email": "Ann@Example.org", "password": PASSWORD });
    let (_, ann) = answered(api.request(Method::POST, "/api/auth/signup").json(&body)).await;
    let refused = sign_in(&api).await.unwrap_err();
    assert!(refused["detail"].as_str().unwrap().contains("exists"), "{refused}");

    let linking = Api::start(world.context_with(&[("auth.oidc.home.link_by_email", "true")]));
    for vouched in [
        json!({ "email_verified": false }),
        json!({ "email_verified": null }),
        json!({ "email_verified": "no" }),
    ] {
        provider.behave(|it| it.claims = vouched);
        let refused = sign_in(&linking).await.unwrap_err();
        assert!(refused["detail"].as_str().unwrap().contains("verified"), "{refused}");
    }
    provider.behave(|it| it.claims = json!({ "email_verified": "true" }));
    let set = sign_in(&linking).await.unwrap();
    assert_eq!(me(&linking, &set).await["id"], ann["user_id"]);
    // Once linked, the identity is accepted by an instance that may not link; disabling the account ends that.
    assert!(sign_in(&api).await.is_ok());
    let id = ann["user_id"].as_str().unwrap().parse().unwrap();
    administration::change(&world.context, id, Change::disabled(true), None, &Origin::default())
        .await
        .unwrap();
    assert_eq!(sign_in(&api).await.unwrap_err()["error_code"], "INVALID_CREDENTIALS");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_users_get_no_account_if_sign_up_is_off_or_the_address_is_unverified() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = knowing(&provider).build().await;
    let closed = world.start_api();
    assert_eq!(sign_in(&closed).await.unwrap_err()["error_code"], "INVALID_CREDENTIALS");
    let api = Api::start(world.context_with(&[("auth.oidc.home.signup", "true")]));
    provider.behave(|it| it.claims = json!({ "email_verified": false }));
    assert_eq!(sign_in(&api).await.unwrap_err()["error_code"], "INVALID_CREDENTIALS");
    let count = "SELECT count(*) FROM users";
    assert_eq!(database::texts(&world.context.db, count).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_only_to_allowed_destinations() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = with(&provider).set("auth.cookie_origins", "https://app.example.net").build().await;
    let api = world.start_api();
    for elsewhere in [
        "https://evil.example/",
        "//evil.example/",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "/%09/evil.example",
        "%20//evil.example",
        "javascript:alert(1)",
        "https://app.example.net@evil.example/",
        "https://app.example.net.evil.example/",
        "http://app.example.net/",
        "evil.example",
        "",
    ] {
        let path = format!("/api/auth/oidc/home/start?return_to={elsewhere}");
        problem(api.request(Method::GET, &path), 400, "VALIDATION_FAILED").await;
    }
    let there = visit(&api, "?return_to=https://app.example.net/welcome").await;
    let response = callback(&api, &there.address, &there.attempt).send().await.unwrap();
    assert_eq!(location(&response), "https://app.example.net/welcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_or_misconfigured_provider_is_distinguished_from_a_rejection() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    provider.behave(|it| it.published_issuer = Some("http://evil.example".to_owned()));
    let world = with(&provider)
        .set("auth.oidc.away.issuer", "http://127.0.0.1:1")
        .set("auth.oidc.away.client_id", "x")
        .build()
        .await;
    let api = world.start_api();
    for name in ["home", "away"] {
        let path = format!("/api/auth/oidc/{name}/start");
        let told = problem(api.request(Method::GET, &path), 502, "PROVIDER_ERROR").await;
        assert!(!told["detail"].as_str().unwrap().contains("127.0.0.1"), "{told}");
    }
    problem(api.request(Method::GET, "/api/auth/oidc/nobody/start"), 404, "NOT_FOUND").await;
}
