//! Interrupted uploads and purged files leave nothing behind.

use bytes::Bytes;
use chrono::Duration;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::users;
use nightferry_core::error::Error;
use nightferry_core::file::upload;
use nightferry_core::file::{details, trash};
use nightferry_core::object::health;
use nightferry_core::object::write::{BodyError, Incoming};
use nightferry_core::tiering::reap;
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::memory_s3::Deletion;
use nightferry_tests::harness::{World, WorldBuilder, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;

/// A client that disconnects after some bytes.
struct GoesAway {
    left: u64,
    promised: u64,
}

impl Incoming for GoesAway {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.left == 0 {
            return Some(Err(BodyError::Broken("connection reset".to_owned())));
        }
        self.left -= 1;
        self.promised -= MIB;
        Some(Ok(Bytes::from(vec![7; MIB as usize])))
    }

    fn at_least(&self) -> u64 {
        self.promised
    }

    fn at_most(&self) -> Option<u64> {
        Some(self.promised)
    }
}

/// A client that sends some chunks and then stops.
struct Stalls(nightferry_tests::harness::Pattern, u32);

impl Incoming for Stalls {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.1 == 0 {
            std::future::pending::<()>().await;
        }
        self.1 -= 1;
        self.0.next().await
    }

    fn at_least(&self) -> u64 {
        self.0.at_least()
    }

    fn at_most(&self) -> Option<u64> {
        self.0.at_most()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_client_goes_away_leaves_nothing_behind() {
    let world = World::with("uploads.part_size_mib", 8).build().await;
    let user = world.user().await;
    let mut body = GoesAway { left: 20, promised: 64 * MIB };

    let outcome = upload::receive(
        &world.services.files,
        nightferry_tests::harness::world::request(user, "a"),
        &mut body,
    )
    .await;

    assert!(matches!(outcome, Err(Error::BadRequest(_))), "{outcome:?}");
    let reaped = reap::pass(&world.context).await.unwrap();
    assert_eq!(reaped.objects, 1);
    let store = world.context.stores.local().unwrap();
    assert!(store.list("user-", None, 10).await.unwrap().objects.is_empty());
    assert!(store.list_multipart_uploads("").await.unwrap().is_empty());
    assert_eq!(reap::pass(&world.context).await.unwrap(), reap::Reaped::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_process_died_is_reaped_after_its_time() {
    let world = World::new().await;
    let user = world.user().await;
    {
        // Polled for a while and dropped, as when the process is killed: no cleanup runs.
        let request = nightferry_tests::harness::world::request(user, "a");
        let mut body = Stalls(pattern(1, 64 * MIB), 300);
        let upload = upload::receive(&world.services.files, request, &mut body);
        assert!(tokio::time::timeout(std::time::Duration::from_secs(3), upload).await.is_err());
    }
    assert_eq!(
        reap::pass(&world.context).await.unwrap(),
        reap::Reaped::default(),
        "it may still be in progress"
    );

    world.context.clock.advance(Duration::hours(2));
    let reaped = reap::pass(&world.context).await.unwrap();

    assert_eq!((reaped.uploads, reaped.objects), (1, 1));
    let store = world.context.stores.local().unwrap();
    assert!(store.list("user-", None, 10).await.unwrap().objects.is_empty());
    assert!(store.list_multipart_uploads("").await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_file_vanishes_from_every_store_and_from_the_quota() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    world.upload(user, "a", pattern(2, 500)).await;
    let kept = world.upload(user, "b", pattern(3, 70)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;

    trash::purge(&world.context, user, file.row.id, &Origin::default()).await.unwrap();
    let reaped = reap::pass(&world.context).await.unwrap();

    assert_eq!(reaped.objects, 2);
    for store in world.context.stores.all() {
        assert_eq!(store.list("user-", None, 10).await.unwrap().objects.len(), 1, "{}", store.name());
    }
    assert!(matches!(details::find(&world.context, user, file.row.id).await, Err(Error::NotFound(_))));
    assert_eq!(world.stored("s3", &kept).await, Some(pattern(3, 70).sha256()));
    let mut conn = world.context.db.conn().await.unwrap();
    assert_eq!(users::find(&mut conn, user).await.unwrap().unwrap().used_bytes, 70);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_a_store_that_is_down_wait_without_blocking_others() {
    let world = World::with("health.failures", 1).set("health.successes", 1).build().await;
    let user = world.user().await;
    let (far, near) = (
        world.upload(user, "far", pattern(1, 1000)).await,
        world.upload(user, "near", pattern(2, 1000)).await,
    );
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 2);
    worker.stop().await;
    let only_near = format!("DELETE FROM replicas WHERE store = 's3' AND object_id = '{}'", near.object_id);
    execute(&world.context.db, &only_near).await.unwrap();
    for file in [&far, &near] {
        trash::purge(&world.context, user, file.row.id, &Origin::default()).await.unwrap();
    }
    let outage = world.cloud.add(Fault::status(503, "ServiceUnavailable"));
    health::check_all(&world.context).await;
    assert!(!world.context.stores.health().is_up("s3"));
    world.cloud.forget_requests();

    assert_eq!(
        reap::pass(&world.context).await.unwrap().objects,
        1,
        "objects that need no store that is down are removed"
    );
    assert!(world.cloud.requests().is_empty(), "a store that is down is not used");
    outage.remove();
    health::check_all(&world.context).await;

    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_removed_concurrently_by_a_store_without_batches() {
    let world = World::new().await;
    world.local.add(Fault::no_batch_deletions());
    let user = world.user().await;
    for seed in 0..8 {
        let file = world.upload(user, &format!("{seed}"), pattern(seed, 100)).await;
        trash::purge(&world.context, user, file.row.id, &Origin::default()).await.unwrap();
    }
    let gate = world.local.gate(Match::method(Method::DELETE), Hold::Request);
    let context = world.context.clone();
    let pass = tokio::spawn(async move { reap::pass(&context).await.unwrap() });
    gate.reached_by(8).await;
    gate.open();
    assert_eq!(pass.await.unwrap().objects, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_are_removed_with_few_requests_and_a_refused_one_waits_alone() {
    let world = WorldBuilder::default().in_memory().build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..150 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 100)).await);
    }
    let kept = world.key(&files[7]).await;
    for file in &files {
        trash::purge(&world.context, user, file.row.id, &Origin::default()).await.unwrap();
    }
    let [local, _] = world.memory.as_ref().unwrap();
    local.set_deletion(kept.as_str(), Deletion::Refused);
    world.local.forget_requests();

    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 149);

    let requests = world.local.count(&Match::deletions());
    assert!(requests <= 3, "{requests} requests for 150 objects");
    let left: Vec<String> = local.objects().into_keys().filter(|key| key.starts_with("user-")).collect();
    assert_eq!(left, [kept.as_str()]);
    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 0, "its row remains");
    local.set_deletion(kept.as_str(), Deletion::Done);
    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 1);
    assert!(!local.objects().contains_key(kept.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_removed_is_tried_after_all_others() {
    let world = World::new().await;
    let user = world.user().await;
    // The first in the order of ids.
    let stuck = world.upload(user, "stuck", pattern(0, 100)).await;
    trash::purge(&world.context, user, stuck.row.id, &Origin::default()).await.unwrap();
    let key = stuck.object_id.to_string();
    world.local.add(Fault::no_batch_deletions());
    let fault = world.local.add(Fault::status(403, "AccessDenied").on(Method::DELETE).key_contains(&key));
    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 0);
    for seed in 1..4 {
        let file = world.upload(user, &format!("{seed}"), pattern(seed, 100)).await;
        trash::purge(&world.context, user, file.row.id, &Origin::default()).await.unwrap();
    }
    world.local.forget_requests();

    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 3);

    let requests = world.local.requests();
    let tried: Vec<bool> = requests
        .iter()
        .filter(|request| request.method == Method::DELETE && request.path.contains("user-"))
        .map(|request| request.path.contains(&key))
        .collect();
    let first = tried.iter().position(|is_stuck| *is_stuck);
    assert_eq!(first, Some(3), "{tried:?}");
    fault.remove();
    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 1);
}
