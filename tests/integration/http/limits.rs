//! Rate limits: by address for sign-in routes, by caller elsewhere, shared across instances with Redis, and never
//! failing because of it.

use nightferry_tests::harness::api::{Api, PASSWORD, Person, answered, problem};
use nightferry_tests::harness::redis::Redis;
use nightferry_tests::harness::{World, WorldBuilder, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;

fn world() -> WorldBuilder {
    World::with("server.trusted_proxies", "127.0.0.0/8")
}

/// How many of `count` requests get a status other than 429.
async fn through(request: impl Fn() -> reqwest::RequestBuilder, times: usize) -> usize {
    let mut through = 0;
    for _ in 0..times {
        let response = request().send().await.unwrap();
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            through += 1;
        }
    }
    through
}

fn refresh<'a>(api: &'a Api, from: &'a str) -> impl Fn() -> reqwest::RequestBuilder + 'a {
    move || {
        let body = json!({ "refresh_token": "nonsense" });
        api.request(Method::POST, "/api/auth/refresh").header("x-forwarded-for", from).json(&body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_is_limited_by_address_with_retry_after() {
    let world = world().set("limits.auth_requests_per_minute", "6").build().await;
    let api = world.start_api();
    assert_eq!(through(refresh(&api, "192.0.2.1"), 10).await, 6);
    let response = refresh(&api, "192.0.2.1")().send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let wait: u64 = header("retry-after").parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(header("ratelimit-policy"), "\"default\";q=6;w=60");
    assert_eq!(header("ratelimit"), format!("\"default\";r=0;t={wait}"));
    problem(refresh(&api, "192.0.2.1")(), 429, "RATE_LIMITED").await;
    // Others are not affected: another address, another IPv6 network, routes other than sign-in, and health checks.
    assert_eq!(through(refresh(&api, "192.0.2.2"), 1).await, 1);
    assert_eq!(through(refresh(&api, "2001:db8::1"), 4).await, 4);
    assert_eq!(through(refresh(&api, "2001:db8::2"), 4).await, 2, "one /64 is one address");
    assert_eq!(through(refresh(&api, "2001:db8:0:1::2"), 4).await, 4);
    let list = || api.request(Method::GET, "/api/files").header("x-forwarded-for", "192.0.2.1");
    assert_eq!(through(list, 3).await, 3);
    assert_eq!(through(|| api.request(Method::GET, "/health"), 50).await, 50);
    // The limit recovers over time.
    world.context.clock.advance(chrono::Duration::seconds(20));
    assert_eq!(through(refresh(&api, "192.0.2.1"), 10).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_routes_are_limited_by_caller_and_invalid_tokens_do_not_count_as_callers() {
    // So slow that the duration of the test does not matter.
    let world = world().set("limits.requests_per_second", "1").build().await;
    let api = world.start_api();
    let (ann, bob) = (api.person().await, api.person().await);
    let files = |person: &Person<'_>, from: &str| {
        person.request(Method::GET, "/api/files").header("x-forwarded-for", from.to_owned())
    };
    let all = async |count: usize, request: &dyn Fn(usize) -> reqwest::RequestBuilder| {
        let answers = futures_util::future::join_all((0..count).map(|number| request(number).send())).await;
        answers.into_iter().filter(|answer| answer.as_ref().unwrap().status() != 429).count()
    };
    let of_ann = all(200, &|number| files(&ann, &format!("192.0.2.{}", number % 200))).await;
    assert!((1..50).contains(&of_ann), "one account is one caller from any address: {of_ann}");
    let of_bob = all(1, &|_| files(&bob, "192.0.2.1")).await;
    assert_eq!(of_bob, 1, "another account at the same address has its own limit");
    let forged = all(200, &|number| {
        api.request(Method::GET, "/api/files")
            .bearer_auth(format!("x.y.{number}"))
            .header("x-forwarded-for", "192.0.2.50")
    })
    .await;
    assert!((1..50).contains(&forged), "{forged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_switched_off() {
    let world =
        World::with("limits.enabled", "false").set("limits.auth_requests_per_minute", "1").build().await;
    let api = world.start_api();
    assert_eq!(through(refresh(&api, "192.0.2.1"), 20).await, 20);
    let response = api.request(Method::GET, "/api/files").send().await.unwrap();
    assert!(!response.headers().contains_key("ratelimit"));
}

async fn metric(api: &Api, name: &str) -> f64 {
    let text = api.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    let value =
        text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').next_back());
    value.filter_map(|value| value.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_count_together_with_redis_and_separately_without_it() {
    let redis = Redis::start().await;
    let world = world()
        .set("limits.auth_requests_per_minute", "10")
        .set("limits.redis_url", redis.url())
        .set("limits.redis_timeout", "2s")
        .build()
        .await;
    let (one, other) = (world.start_api(), world.start_api());
    // However the requests are distributed, ten are accepted, and one more for every six seconds of the test.
    let at_once = (0..40).map(|number| {
        let api = if number % 2 == 0 { &one } else { &other };
        answered(refresh(api, "192.0.2.1")())
    });
    let answers = futures_util::future::join_all(at_once).await;
    let passed = answers.iter().filter(|(status, _)| *status == 401).count();
    assert!((10..=12).contains(&passed), "{passed}");
    assert!(answers.iter().all(|(status, _)| *status == 401 || *status == 429));
    let response = refresh(&other, "192.0.2.1")().send().await.unwrap();
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");

    redis.stop().await;
    let before = metric(&one, "nightferry_limits_fallback_total").await;
    // Each instance counts on its own, and Redis causes no rejections.
    assert_eq!(through(refresh(&one, "192.0.2.1"), 15).await, 10);
    assert_eq!(through(refresh(&other, "192.0.2.1"), 15).await, 10);
    assert!(metric(&one, "nightferry_limits_fallback_total").await >= before + 30.0);

    redis.restart().await;
    // The counters in Redis are lost; the instances count together again as soon as they have reconnected.
    eventually("both have reconnected to Redis", || async {
        let fallbacks = metric(&one, "nightferry_limits_fallback_total").await;
        let probe = uuid::Uuid::new_v4().as_u128();
        let from = format!("2001:db8:{:x}:{:x}::1", probe & 0xffff, (probe >> 16) & 0xffff);
        through(refresh(&one, &from), 1).await;
        through(refresh(&other, &from), 1).await;
        (metric(&one, "nightferry_limits_fallback_total").await <= fallbacks).then_some(())
    })
    .await;
    let passed =
        through(refresh(&one, "192.0.2.9"), 8).await + through(refresh(&other, "192.0.2.9"), 8).await;
    assert!((10..=12).contains(&passed), "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_redis_affects_no_request() {
    let world = World::with("limits.redis_url", "redis://127.0.0.1:1/0").build().await;
    let api = world.start_api();
    let started = std::time::Instant::now();
    let ann = api.person().await;
    for _ in 0..20 {
        ann.get("/api/auth/me").await;
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    let (status, _) = answered(
        api.request(Method::POST, "/api/auth/login")
            .json(&json!({ "email": ann.email, "password": PASSWORD })),
    )
    .await;
    assert_eq!(status, 200);
}
