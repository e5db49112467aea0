//! Cookie mode: tokens that scripts cannot read, and requests that other sites cannot forge.

use std::collections::BTreeMap;

use nightferry_tests::harness::World;
use nightferry_tests::harness::api::{Api, PASSWORD, Person, answered, cookies, problem};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

const ACCESS: &str = "__Host-nightferry_access";
const REFRESH: &str = "__Host-nightferry_refresh";

type Jar = BTreeMap<String, (String, String)>;

async fn login(api: &Api, person: &Person<'_>) -> Response {
    let body = json!({ "email": person.email, "password": PASSWORD, "cookie": true });
    let response = api.request(Method::POST, "/api/auth/login").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

fn with(request: RequestBuilder, jar: &Jar, name: &str) -> RequestBuilder {
    request.header("cookie", format!("theme=dark; {name}={}; x=y", jar[name].0))
}

fn own(request: RequestBuilder) -> RequestBuilder {
    request.header("sec-fetch-site", "same-origin")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_refreshes_and_signs_out_by_cookies() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let response = login(&api, &ann).await;
    let jar = cookies(&response);
    assert_eq!(jar[ACCESS].1, "HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900");
    assert_eq!(jar[REFRESH].1, "HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=2592000");
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("cookie"), &json!(900)));
    assert_eq!(body["user"]["email"], ann.email);
    assert!(body.get("access_token").is_none() && body.get("refresh_token").is_none(), "{body}");

    let me = |jar: &Jar| with(api.request(Method::GET, "/api/auth/me"), jar, ACCESS);
    assert_eq!(answered(me(&jar)).await.1["email"], ann.email);
    let refresh = |jar: &Jar| own(with(api.request(Method::POST, "/api/auth/refresh"), jar, REFRESH));
    let response = refresh(&jar).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let next = cookies(&response);
    assert_ne!(next[REFRESH].0, jar[REFRESH].0);
    assert!(response.json::<Value>().await.unwrap().get("refresh_token").is_none());
    // The other tab lost the race. Its response must not delete the winner's cookies.
    let lost = refresh(&jar).send().await.unwrap();
    assert_eq!((lost.status().as_u16(), cookies(&lost).len()), (401, 0));

    let logout = own(with(api.request(Method::POST, "/api/auth/logout"), &next, ACCESS));
    let response = logout.send().await.unwrap();
    assert_eq!(response.status(), 204);
    let cleared = cookies(&response);
    assert_eq!((cleared[ACCESS].0.as_str(), cleared[REFRESH].0.as_str()), ("", ""));
    assert!(cleared.values().all(|(_, attributes)| attributes.ends_with("Max-Age=0")), "{cleared:?}");
    problem(me(&next), 401, "TOKEN_REVOKED").await;
    problem(refresh(&next), 401, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_changes_by_cookie_must_come_from_own_pages() {
    let world = World::with("server.public_url", "https://files.example.org")
        .set("auth.cookie_origins", "https://app.example.net, https://other.example.net:8443/")
        .build()
        .await;
    let api = world.start_api();
    let ann = api.person().await;
    let jar = cookies(&login(&api, &ann).await);
    let host = api.base.clone();
    let rename = || {
        let request = api.request(Method::PATCH, "/api/auth/me").json(&json!({ "name": "Ann" }));
        with(request, &jar, ACCESS)
    };
    let headers = |request: RequestBuilder, site: Option<&str>, origin: Option<&str>| {
        let request = site.into_iter().fold(request, |request, site| request.header("sec-fetch-site", site));
        origin.into_iter().fold(request, |request, origin| request.header("origin", origin))
    };
    for (site, origin) in [
        (Some("same-origin"), Some("https://files.example.org")),
        (Some("same-origin"), None),
        (Some("cross-site"), Some("https://app.example.net")),
        (Some("same-site"), Some("https://other.example.net:8443")),
        (None, Some("https://files.example.org")),
        (None, Some(host.as_str())),
    ] {
        let (status, body) = answered(headers(rename(), site, origin)).await;
        assert_eq!(status, 200, "{site:?} {origin:?} {body}");
    }
    let foreign = [
        (Some("cross-site"), Some("https://evil.example")),
        (Some("cross-site"), None),
        (Some("same-site"), Some("https://sub.example.org")),
        (None, Some("https://evil.example")),
        (None, Some("null")),
    ];
    for (site, origin) in foreign.into_iter().chain([(None, None)]) {
        problem(headers(rename(), site, origin), 403, "CSRF_REJECTED").await;
        // Reads are not rejected: the browser does not show the response to the page.
        let read = with(api.request(Method::GET, "/api/auth/me"), &jar, ACCESS);
        assert_eq!(answered(headers(read, site, origin)).await.0, 200);
        let refresh = with(api.request(Method::POST, "/api/auth/refresh"), &jar, REFRESH);
        problem(headers(refresh, site, origin), 403, "CSRF_REJECTED").await;
        // A page cannot read the token, so a request with the token in the header is permitted.
        let bearer = ann.request(Method::PATCH, "/api/auth/me").json(&json!({ "name": "Ann" }));
        assert_eq!(answered(headers(bearer, site, origin)).await.0, 200);
    }
    for (site, origin) in foreign {
        let body = json!({ "email": ann.email, "password": PASSWORD, "cookie": true });
        let login = api.request(Method::POST, "/api/auth/login").json(&body);
        problem(headers(login, site, origin), 403, "CSRF_REJECTED").await;
    }
    let me = ann.get("/api/auth/me").await;
    assert_eq!(me["name"], "Ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_header_is_not_replaced_by_a_valid_cookie_and_cookies_only_hold_session_tokens() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let jar = cookies(&login(&api, &ann).await);
    let both = with(api.request(Method::GET, "/api/auth/me"), &jar, ACCESS).bearer_auth("nonsense");
    problem(both, 401, "UNAUTHENTICATED").await;
    let token = ann.personal_token(&["files:read"]).await;
    let pasted = api.request(Method::GET, "/api/auth/me").header("cookie", format!("{ACCESS}={token}"));
    problem(pasted, 401, "UNAUTHENTICATED").await;
    // Without the prefix, another host of the domain could have set it.
    let tossed =
        api.request(Method::GET, "/api/auth/me").header("cookie", format!("nightferry_access={}", ann.token));
    problem(tossed, 401, "UNAUTHENTICATED").await;
    // A sibling host can set a cookie with this prefix for the whole domain.
    let planted = format!("__Secure-nightferry_refresh={}", jar[REFRESH].0);
    let planted = own(api.request(Method::POST, "/api/auth/refresh").header("cookie", planted));
    problem(planted, 400, "VALIDATION_FAILED").await;
    // Of two cookies with one name, it is unknown which one this service has set.
    let twice = |name: &str| format!("{name}={}; {name}=another", jar[name].0);
    let me = api.request(Method::GET, "/api/auth/me").header("cookie", twice(ACCESS));
    problem(me, 401, "UNAUTHENTICATED").await;
    let refresh = own(api.request(Method::POST, "/api/auth/refresh").header("cookie", twice(REFRESH)));
    problem(refresh, 400, "VALIDATION_FAILED").await;
    let nothing = api.request(Method::POST, "/api/auth/refresh");
    problem(nothing, 400, "VALIDATION_FAILED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_the_cookies_have_plain_names() {
    let world = World::with("auth.cookie_secure", "false").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let jar = cookies(&login(&api, &ann).await);
    assert_eq!(jar["nightferry_access"].1, "HttpOnly; SameSite=Lax; Path=/; Max-Age=900");
    let refresh = "HttpOnly; SameSite=Strict; Path=/api/auth/refresh; Max-Age=2592000";
    assert_eq!(jar["nightferry_refresh"].1, refresh);
    let me = with(api.request(Method::GET, "/api/auth/me"), &jar, "nightferry_access");
    assert_eq!(answered(me).await.0, 200);
}
