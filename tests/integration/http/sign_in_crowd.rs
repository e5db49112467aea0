//! Many concurrent sign-ins from one network do not delay others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightferry_tests::harness::api::{Api, PASSWORD, answered};
use nightferry_tests::harness::{World, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

/// Held by each test: two crowds at once would measure the scheduling of this process.
static PROCESSOR: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn login_from(api: &Api, network: &str, email: &str) -> RequestBuilder {
    api.request(Method::POST, "/api/auth/login")
        .header("x-forwarded-for", network)
        .json(&json!({ "email": email, "password": PASSWORD }))
}

/// Many concurrent logins from one network: the status of each.
fn crowd(
    api: &Api,
    many: usize,
    email: &str,
) -> (Arc<AtomicUsize>, impl Future<Output = Vec<reqwest::StatusCode>> + 'static) {
    let done = Arc::new(AtomicUsize::new(0));
    let logins = (0..many).map(|_| {
        let (request, done) = (login_from(api, "192.0.2.1", email), done.clone());
        tokio::spawn(async move {
            let status = request.send().await.unwrap().status();
            done.fetch_add(1, Ordering::SeqCst);
            status
        })
    });
    let logins: Vec<_> = logins.collect();
    (done, async { futures_util::future::join_all(logins).await.into_iter().map(Result::unwrap).collect() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_from_another_network_does_not_wait_behind_many() {
    let _alone = PROCESSOR.lock().await;
    let world =
        World::with("server.trusted_proxies", "127.0.0.0/8").set("auth.bcrypt_cost", "10").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let (done, crowd) = crowd(&api, 50, &ann.email);
    eventually("the first of them has signed in", || async {
        (done.load(Ordering::SeqCst) > 0).then_some(())
    })
    .await;
    assert_eq!(answered(login_from(&api, "192.0.2.2", &ann.email)).await.0, 200);
    let before = done.load(Ordering::SeqCst);
    assert!(before < 30, "{before} of 50 were served before the request from another network");
    // A whole office may sign in at once, too.
    assert!(crowd.await.iter().all(|status| *status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_requests_are_rejected() {
    let _alone = PROCESSOR.lock().await;
    let world = World::with("server.trusted_proxies", "127.0.0.0/8")
        // Low enough for all waiting requests to be served in time on a busy machine.
        .set("auth.bcrypt_cost", "9")
        .set("limits.enabled", "false")
        .build()
        .await;
    let api = world.start_api();
    let ann = api.person().await;
    let statuses = crowd(&api, 150, &ann.email).1.await;
    let of = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert!(of(200) >= 60 && of(429) > 0 && of(200) + of(429) == 150, "{statuses:?}");
    let response = login_from(&api, "192.0.2.1", &ann.email).send().await.unwrap();
    assert_eq!(response.status(), 200, "afterwards it is as before");
}
