//! Copies in an archive class, which no server here has: the proxy in front of a real one responds as S3 documents it.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RestoreState};
use nightferry_core::db::restores;
use nightferry_core::file::details::FileView;
use nightferry_core::tiering::archive::{self, RestoreOutcome};
use nightferry_core::tiering::fetch::{self, Fetch};
use nightferry_core::tiering::scrub::{self, Options};
use nightferry_tests::harness::api::{Api, Person, answered};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::Match;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 100_000;
const LATER: &str = "Fri, 21 Dec 2099 00:00:00 GMT";
const LONG_AGO: &str = "Fri, 21 Dec 2012 00:00:00 GMT";

fn evicted_at_once() -> WorldBuilder {
    World::with("tiering.free_local_after", "0s").set("tiering.archive_poll", "1s")
}

/// A file whose only copy is in the cloud store and has just been archived.
async fn archived<'a>(world: &World, api: &'a Api) -> (Person<'a>, Value) {
    let ann = api.person().await;
    let file = ann.upload("a.bin", pattern(1, SIZE)).await;
    let worker = world.start_worker();
    world.sync().await;
    eventually("the local copy is evicted", || async {
        let local = texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio'").await;
        local.is_empty().then_some(())
    })
    .await;
    worker.stop().await;
    world.cloud.glacier().freeze("a.bin");
    (ann, file)
}

fn path(file: &Value) -> String {
    format!("/api/files/{}/download", file["id"].as_str().unwrap())
}

async fn states(world: &World) -> Vec<String> {
    texts(&world.context.db, "SELECT state::text FROM restores").await
}

async fn in_state(world: &World, state: &str) {
    eventually("the restore has progressed", || async { (states(world).await == [state]).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_an_archived_file_requests_one_restore_and_works_afterwards() {
    let world = evicted_at_once().build().await;
    let api = world.start_api();
    let (ann, file) = archived(&world, &api).await;
    let get = || ann.request(Method::GET, &path(&file));

    // Many requests before any worker is running: one restore.
    let all = (0..8).map(|_| get().send());
    for response in futures_util::future::join_all(all).await {
        let response = response.unwrap();
        assert_eq!(response.status(), 202);
        assert!(response.headers().contains_key("retry-after"));
        let body: Value = response.json().await.unwrap();
        assert_eq!((&body["restore"]["state"], &body["restore"]["store"]), (&"wanted".into(), &"s3".into()));
    }
    let worker = world.start_worker();
    in_state(&world, "restoring").await;
    let (status, body) = answered(get()).await;
    assert_eq!((status.as_u16(), &body["restore"]["state"]), (202, &"restoring".into()));
    let (_, placement) =
        answered(ann.request(Method::GET, &format!("/api/files/{}/placement", file["id"].as_str().unwrap())))
            .await;
    assert_eq!(placement["restores"][0]["state"], "restoring", "{placement}");

    world.cloud.glacier().finish(LATER);
    in_state(&world, "ready").await;
    let response = get().header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!(response.status(), 206);
    assert_eq!(response.bytes().await.unwrap(), &pattern(1, SIZE).bytes()[10..20]);
    let head = ann.request(Method::HEAD, &path(&file)).send().await.unwrap();
    assert_eq!(head.status(), 200);
    worker.stop().await;
    assert_eq!(world.cloud.glacier().restores(), 1, "for any number of requests");
    assert_eq!(world.cloud.count(&Match::method(Method::POST).has_parameter("restore")), 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_restore_is_requested_again() {
    let world = evicted_at_once().build().await;
    let api = world.start_api();
    let (ann, file) = archived(&world, &api).await;
    let get = || ann.request(Method::GET, &path(&file));
    let worker = world.start_worker();
    assert_eq!(get().send().await.unwrap().status(), 202);
    in_state(&world, "restoring").await;
    world.cloud.glacier().finish(LONG_AGO);
    in_state(&world, "ready").await;
    world.cloud.glacier().expire();

    let (status, body) = answered(get()).await;
    assert_eq!((status.as_u16(), &body["restore"]["state"]), (202, &"wanted".into()), "{body}");
    in_state(&world, "restoring").await;
    assert_eq!(world.cloud.glacier().restores(), 2);
    // The store loses the restore while it is in progress: it is requested a third time.
    world.cloud.glacier().expire();
    eventually("it is requested again", || async { (world.cloud.glacier().restores() == 3).then_some(()) })
        .await;
    world.cloud.glacier().finish(LATER);
    in_state(&world, "ready").await;
    assert_eq!(get().send().await.unwrap().bytes().await.unwrap(), pattern(1, SIZE).bytes());
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_copies_are_not_read_for_scrub_or_repair() {
    let world = World::with("tiering.archive_poll", "1s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a.bin", pattern(1, SIZE)).await;
    let worker = world.start_worker();
    world.sync().await;
    world.cloud.glacier().freeze("a.bin");
    let cloud_state = || state(&world, "s3", &file);

    // Scrub reads it once, and not again.
    let stores = vec![world.context.stores.get("s3").unwrap().clone()];
    let min_age = std::time::Duration::ZERO;
    let options = Options { stores, rate: None, bytes: None, time: None, min_age };
    let stop = CancellationToken::new();
    let scrubbed = async || scrub::pass(&world.context, &options, |_| (), &stop).await.unwrap().unwrap();
    assert_eq!(scrubbed().await.found(), 0);
    world.cloud.forget_requests();
    let again = scrubbed().await;
    assert_eq!((again.right, again.unread, again.found()), (0, 0, 0));
    let touched = world.cloud.count(&Match::any().key_contains("user-"));
    assert_eq!(touched, 0, "it is not touched");
    assert_eq!(cloud_state().await, Some(ReplicaState::Present));

    // The local copy is lost: it cannot be repaired from the archived copy.
    world.direct.get("minio").unwrap().delete(&world.key(&file).await).await.unwrap();
    execute(&world.context.db, "UPDATE replicas SET state = 'lost' WHERE store = 'minio'").await.unwrap();
    assert_eq!(nightferry_core::tiering::repair::pass(&world.context).await.unwrap().copies, 0);
    assert_eq!(
        fetch::request(&world.context, file.row.id, None, &Origin::default()).await.unwrap(),
        Fetch::NoSource
    );
    assert_eq!(world.cloud.glacier().restores(), 0, "no restore was requested, because it costs money");

    let RestoreOutcome::Restoring(restore) =
        archive::request(&world.context, file.row.id, None, None).await.unwrap()
    else {
        panic!("it is archived")
    };
    assert_eq!(restore.state, RestoreState::Wanted);
    in_state(&world, "restoring").await;
    world.cloud.glacier().finish(LATER);
    in_state(&world, "ready").await;
    nightferry_core::tiering::repair::pass(&world.context).await.unwrap();
    eventually("the local copy has been made again", || async {
        (state(&world, "minio", &file).await == Some(ReplicaState::Present)).then_some(())
    })
    .await;
    let outcome = archive::request(&world.context, file.row.id, None, None).await.unwrap();
    assert_eq!(outcome, RestoreOutcome::Readable("minio".to_owned()), "no further restore is requested");
    worker.stop().await;
    assert_eq!(world.stored("minio", &file).await, Some(pattern(1, SIZE).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_restore_fails_with_the_reason_and_can_be_requested_again() {
    let world = evicted_at_once().build().await;
    let api = world.start_api();
    let (ann, file) = archived(&world, &api).await;
    let refuse = nightferry_tests::harness::fault_proxy::Fault::status(403, "AccessDenied").on(Method::POST);
    let refuse = world.cloud.add(refuse);
    let worker = world.start_worker();
    assert_eq!(ann.request(Method::GET, &path(&file)).send().await.unwrap().status(), 202);
    in_state(&world, "failed").await;
    let object = file_object(&world).await;
    let mut conn = world.context.db.conn().await.unwrap();
    let row = restores::of_object(&mut conn, object).await.unwrap().remove(0);
    assert!(row.last_error.unwrap().contains("AccessDenied"));
    refuse.remove();
    assert_eq!(ann.request(Method::GET, &path(&file)).send().await.unwrap().status(), 202);
    in_state(&world, "restoring").await;
    worker.stop().await;
}

async fn state(world: &World, store: &str, file: &FileView) -> Option<ReplicaState> {
    world.replica(store, file).await.map(|replica| replica.state)
}

async fn file_object(world: &World) -> nightferry_core::ids::ObjectId {
    texts(&world.context.db, "SELECT id::text FROM objects").await[0].parse().unwrap()
}
