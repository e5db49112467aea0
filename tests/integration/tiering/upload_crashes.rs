//! kill -9 of the API at every step of an upload: no row refers to missing content, and the reaper leaves nothing
//! behind.

use bytes::Bytes;
use chrono::Duration;
use futures_util::{StreamExt, stream};
use nightferry_core::tiering::reap;
use nightferry_tests::harness::api::Api;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::process::Process;
use nightferry_tests::harness::{World, assert_invariants, pattern};
use reqwest::{Body, Method};

const MIB: u64 = 1024 * 1024;

async fn start_api(world: &World) -> (Process, Api) {
    let process = world.start_process(&["--json", "serve"]).await;
    process.says("}").await;
    let document: serde_json::Value = serde_json::from_str(&process.stdout()).unwrap();
    let api = Api::at(format!("http://{}", document["address"].as_str().unwrap()));
    (process, api)
}

/// The API is killed while an upload waits at a gate of the local store.
async fn leaves_nothing_behind(size: u64, at: Match, hold: Hold) {
    let world = World::with("uploads.part_size_mib", 8).build().await;
    let (process, api) = start_api(&world).await;
    let ann = api.person().await;
    ann.upload("kept", pattern(1, 1000)).await;
    let gate = world.local.gate(at, hold);
    let upload = ann.upload_request(&[], "doomed", pattern(2, size).bytes());
    let upload = tokio::spawn(upload.send());
    gate.reached().await;

    process.kill();
    gate.open();
    assert!(upload.await.unwrap().is_err(), "it was not acknowledged");
    is_as_if_it_had_never_been(&world).await;
}

async fn is_as_if_it_had_never_been(world: &World) {
    // Requests of the dead process have ended once its connections are closed.
    world.local.until(|requests| requests.iter().all(|request| request.done)).await;
    let files = texts(&world.context.db, "SELECT filename FROM files").await;
    assert_eq!(files, ["kept"]);
    assert_eq!(
        reap::pass(&world.context).await.unwrap(),
        reap::Reaped::default(),
        "it may still be in progress"
    );

    world.context.clock.advance(Duration::hours(2));
    let reaped = reap::pass(&world.context).await.unwrap();

    assert_eq!((reaped.uploads, reaped.objects), (1, 1));
    assert_invariants(world).await;
    let local = world.direct.local().unwrap();
    assert_eq!(local.list("user-", None, 10).await.unwrap().objects.len(), 1);
    assert!(local.list_multipart_uploads("").await.unwrap().is_empty());
    let booked = texts(&world.context.db, "SELECT sum(used_bytes) FROM users").await;
    assert_eq!(booked, ["1000"], "content that was never stored does not count towards the usage");
}

fn put() -> Match {
    Match::method(Method::PUT).key_contains("doomed")
}

fn post(parameter: &str) -> Match {
    Match::method(Method::POST).key_contains("doomed").has_parameter(parameter)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_before_a_small_upload_reaches_the_store() {
    leaves_nothing_behind(1000, put(), Hold::Request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_after_a_small_upload_was_stored_and_before_it_was_recorded() {
    leaves_nothing_behind(1000, put(), Hold::Answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_after_a_multipart_upload_was_created_and_before_it_was_recorded() {
    leaves_nothing_behind(20 * MIB, post("uploads"), Hold::Answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_in_the_middle_of_a_part() {
    leaves_nothing_behind(20 * MIB, put().parameter("partNumber", "2"), Hold::RequestBody(MIB)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_before_an_upload_is_completed() {
    leaves_nothing_behind(20 * MIB, post("uploadId"), Hold::Request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_after_an_upload_was_completed_and_before_it_was_recorded() {
    leaves_nothing_behind(20 * MIB, post("uploadId"), Hold::Answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_killed_while_its_client_still_sends() {
    let world = World::with("uploads.part_size_mib", 8).build().await;
    let (process, api) = start_api(&world).await;
    let ann = api.person().await;
    ann.upload("kept", pattern(1, 1000)).await;
    // Twelve MiB, and then nothing more as long as the API runs.
    let chunks = (0..12).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; MIB as usize])));
    let body = Body::wrap_stream(stream::iter(chunks).chain(stream::pending()));
    let upload = tokio::spawn(ann.upload_request(&[], "doomed", body).send());
    world.local.until(|requests| requests.iter().any(|request| put().holds(request))).await;

    process.kill();
    assert!(upload.await.unwrap().is_err());
    is_as_if_it_had_never_been(&world).await;
}
