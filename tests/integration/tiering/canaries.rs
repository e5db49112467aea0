//! The checksum in a store's response is evidence only after canaries: a store may return the checksum that was sent
//! without having verified anything. A store that verifies costs no further request.

use nightferry_core::db::enums::ReplicaState;
use nightferry_core::file::details::FileView;
use nightferry_core::object::canary;
use nightferry_core::store::{Body, Canary, Check, Evidence, Outcome, PutOptions, SendMode, Store};
use nightferry_core::stores::Stores;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::memory_s3::{MemoryS3, Writes};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use serde_json::json;

const MIB: u64 = 1024 * 1024;
const SMALL: u64 = 10_000;
/// Two parts.
const LARGE: u64 = 9 * MIB;

/// Both stores in this process; copies in parts from 8 MiB on, with one attempt each.
fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 8)
        .set("tiering.part_size_mib", 8)
        .set("tiering.max_attempts", 1)
        .in_memory()
}

fn cloud(world: &World) -> (&MemoryS3, &Store) {
    let [_, server] = world.memory.as_ref().unwrap();
    (server, world.context.stores.get("s3").unwrap())
}

async fn upload_two(world: &World) -> Vec<FileView> {
    let user = world.user().await;
    vec![
        world.upload(user, "small", pattern(1, SMALL)).await,
        world.upload(user, "large", pattern(2, LARGE)).await,
    ]
}

/// Runs a sync with a worker.
async fn sync(world: &World) {
    let worker = world.start_worker();
    world.sync().await;
    worker.stop().await;
}

fn outcome_of(canary: &Canary, wanted: Check) -> Outcome {
    canary.outcomes().find(|(check, _)| *check == wanted).unwrap().1.clone()
}

fn heads() -> Match {
    Match::method(Method::HEAD).key_contains("user-")
}

async fn is_never_present(world: &World) {
    let files = upload_two(world).await;
    sync(world).await;
    for file in &files {
        let state = world.replica("s3", file).await.unwrap().state;
        assert_eq!(state, ReplicaState::Failed, "{}", file.row.filename);
        let local = world.replica("minio", file).await.unwrap().state;
        assert_eq!(local, ReplicaState::Present, "it was verified");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_returns_the_sent_checksum_and_stores_other_bytes_never_has_a_present_copy() {
    let world = world().build().await;
    let (server, store) = cloud(&world);
    server.set_writes(Writes::FlippedUnverified);

    let canary = canary::check(store).await;

    assert_eq!(outcome_of(&canary, Check::PutSha256), Outcome::Alters);
    assert!(!canary.heads_lie());
    assert_eq!(canary.evidence(SendMode::Whole), Evidence::Head);
    assert!(!canary.is_trusted(SendMode::Parts));
    is_never_present(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_flipped_on_the_way_to_a_store_that_verifies_nothing_are_found() {
    let world = world().build().await;
    let (server, store) = cloud(&world);
    server.set_writes(Writes::Unverified);

    let canary = canary::check(store).await;

    assert_eq!(outcome_of(&canary, Check::PutSha256), Outcome::Accepts);
    assert_eq!(outcome_of(&canary, Check::Part), Outcome::Accepts);
    world.cloud.add(Fault::flip_request_byte(5_000).on(Method::PUT).key_contains("user-"));
    is_never_present(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_first_canary_a_store_is_not_believed() {
    let world = world().build().await;
    let (server, store) = cloud(&world);
    server.set_writes(Writes::FlippedUnverified);
    store.use_canary(Canary::default());

    is_never_present(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_head_returns_false_checksums_is_read_back() {
    let world = world().build().await;
    let (server, store) = cloud(&world);
    server.set_writes(Writes::FlippedAndSworn);

    let canary = canary::check(store).await;

    assert!(canary.heads_lie());
    assert_eq!((canary.evidence(SendMode::Whole), canary.worst()), (Evidence::Read, Evidence::Read));
    is_never_present(&world).await;

    server.set_writes(Writes::Sound);
    assert!(!canary::check(store).await.heads_lie(), "the next canaries decide again");
    let worker = world.start_worker();
    world.retry().await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_answer_not_even_head_is_believed() {
    let world = world().set("health.canary_interval", "24h").build().await;
    let stores = Stores::open(&world.context.config).unwrap();
    let store = stores.get("s3").unwrap();
    assert!(!store.trusts_head());

    let outage = world.cloud.add(Fault::status(503, "ServiceUnavailable"));
    canary::check(store).await;
    assert!(!store.trusts_head(), "it has not answered");
    outage.remove();
    canary::check(store).await;
    assert!(store.trusts_head());
    let outage = world.cloud.add(Fault::status(503, "ServiceUnavailable"));
    canary::check(store).await;
    assert!(store.trusts_head(), "as before");
    assert!(!store.trusts_response(SendMode::Whole));
    outage.remove();

    let (server, _) = cloud(&world);
    server.set_writes(Writes::FlippedAndSworn);
    canary::check(store).await;
    let outage = world.cloud.add(Fault::status(503, "ServiceUnavailable"));
    canary::check(store).await;
    assert!(!store.trusts_head(), "an outage does not make it honest");
    outage.remove();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_believed_although_it_refuses_canaries() {
    let world = world().set("health.canary_interval", "24h").build().await;
    let stores = Stores::open(&world.context.config).unwrap();
    let store = stores.get("s3").unwrap();
    world.cloud.add(Fault::status(507, "XMinioStorageFull").on(Method::PUT));

    let canary = canary::check(store).await;

    assert!(store.trusts_head() && !canary.is_trusted(SendMode::Whole), "{canary:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_send_canaries_before_they_believe_a_store() {
    let world = world().set("health.canary_interval", "24h").build().await;
    let user = world.user().await;
    let file = world.upload(user, "small", pattern(1, SMALL)).await;
    sync(&world).await;
    // The object is now another one, for which HEAD returns the right checksum.
    let (server, _) = cloud(&world);
    server.set_writes(Writes::FlippedAndSworn);
    let options = PutOptions { sha256: Some(pattern(1, SMALL).sha256()), ..PutOptions::default() };
    let body = Body::from(pattern(1, SMALL).bytes());
    world.direct.get("s3").unwrap().put(&world.key(&file).await, body, &options).await.unwrap();
    execute(&world.context.db, "UPDATE replicas SET state = 'lost' WHERE store = 's3'").await.unwrap();

    let (_, document) = world.json_command(&["reconcile"]).await;

    assert_eq!(document["complete"], true, "{document}");
    assert_ne!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Present, "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_verifies_costs_no_further_request() {
    let world = world().build().await;
    for store in world.context.stores.all() {
        let canary = canary::check(store).await;
        for check in [Check::PutSha256, Check::Part, Check::Completion] {
            assert_eq!(outcome_of(&canary, check), Outcome::Refuses, "{check:?}");
        }
    }
    let [local, server] = world.memory.as_ref().unwrap();
    for left in [local, server] {
        let keys: Vec<String> = left.objects().into_keys().collect();
        assert!(!keys.iter().any(|key| key.contains("canary")), "{keys:?}");
        assert!(left.uploads().is_empty());
    }
    upload_two(&world).await;
    sync(&world).await;
    assert_eq!((world.local.count(&heads()), world.cloud.count(&heads())), (0, 0));

    // Without the proof, each copy costs one request.
    world.context.stores.get("s3").unwrap().use_canary(Canary::default());
    let user = world.user().await;
    world.upload(user, "more", pattern(3, SMALL)).await;
    sync(&world).await;
    assert_eq!(world.cloud.count(&heads()), 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_refused_altogether_proves_nothing() {
    let world = world().build().await;
    let (_, store) = cloud(&world);
    world.cloud.add(Fault::status(400, "InvalidRequest").on(Method::PUT).key_contains("canary"));

    let canary = canary::check(store).await;

    assert!(matches!(outcome_of(&canary, Check::PutSha256), Outcome::Unknown(_)), "{canary:?}");
    assert!(!canary.is_conclusive());
    assert!(!canary.is_trusted(SendMode::Whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_sends_canaries_at_its_start_and_records_what_they_show() {
    let world = world().set("health.canary_interval", "24h").set("health.interval", "100ms").build().await;
    let (server, store) = cloud(&world);
    server.set_writes(Writes::Unverified);
    let worker = world.start_worker();

    eventually("the store is known not to verify", || async {
        let canary = store.canary()?;
        (outcome_of(&canary, Check::PutSha256) == Outcome::Accepts).then_some(())
    })
    .await;
    eventually("it is recorded", || async {
        let sql = "SELECT evidence FROM store_health WHERE store = 's3' AND evidence IS NOT NULL";
        let recorded = texts(&world.context.db, sql).await;
        (recorded == ["head"]).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn store_check_shows_the_evidence_of_each_store_and_what_it_costs() {
    let world = world().build().await;
    let (server, _) = cloud(&world);
    server.set_writes(Writes::Unverified);

    let (code, document) = world.json_command(&["store", "check"]).await;

    assert_eq!(code, 0, "{document}");
    let [strict, lax] = [&document["stores"][0], &document["stores"][1]];
    assert_eq!((&strict["name"], &lax["name"]), (&json!("minio"), &json!("s3")));
    let whole = |store: &serde_json::Value| {
        let ways = store["verification"].as_array().unwrap();
        ways.iter().find(|way| way["sent"] == "whole").unwrap().clone()
    };
    assert_eq!(whole(strict), json!({"sent": "whole", "evidence": "response", "requests": 0}));
    assert_eq!(whole(lax), json!({"sent": "whole", "evidence": "head", "requests": 1}));
    let checked = lax["checksums"].as_array().unwrap();
    let put = checked.iter().find(|it| it["request"] == "put-sha256").unwrap();
    assert_eq!(put["wrong_checksum"], "accepts");
}
