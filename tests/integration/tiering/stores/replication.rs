//! Replication: several copies in stores of one role.

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{evict, placement, replication};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use tokio_util::sync::CancellationToken;

use super::{counted, drain, drained, hash, keys};

fn twice() -> WorldBuilder {
    World::with("tiering.local_replicas", 2).another_local("nas")
}

async fn both_there(world: &World, files: usize) {
    eventually("both local stores have all of them", || async {
        let states = states(world).await;
        let all = |store: &str| states.get(&format!("{store} present")) == Some(&files);
        (all("minio") && all("nas")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_replicated_to_the_other_store_immediately() {
    let world = twice().build().await;
    let user = world.user().await;
    let worker = world.start_worker();
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    assert_eq!(file.row.storage_location, "minio");

    both_there(&world, 1).await;

    assert_eq!(world.stored("nas", &file).await, Some(pattern(1, 5_000).sha256()));
    let copy = world.replica("nas", &file).await.unwrap();
    assert_eq!(
        (copy.rule.as_deref(), copy.spare_since),
        (Some("replication"), None),
        "it has not been synced"
    );
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1), "the cloud store is not affected");
    for store in ["minio", "nas"] {
        assert!(
            world.replica(store, &file).await.unwrap().spare_since.is_some(),
            "{store}: it has been synced now"
        );
    }
    let placement = placement::explain(&world.context, file.row.id, None).await.unwrap();
    assert_eq!((placement.replicas.len(), placement.next.action), (3, "none"));
    assert_eq!(placement.file.storage_location, "s3");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_local_copies_are_made_and_evicted_ones_are_not() {
    let mut world = WorldBuilder::default().another_local("nas").build().await;
    let user = world.user().await;
    for seed in 0..5 {
        world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await;
    }
    assert_eq!(states(&world).await, counted([("minio present", 5)]));
    world.reconfigure(&[("tiering.local_replicas", "2")]);
    assert_eq!(replication::pass(&world.context, &CancellationToken::new()).await.unwrap(), 5);
    assert_eq!(replication::pass(&world.context, &CancellationToken::new()).await.unwrap(), 0, "not due");
    let worker = world.start_worker();
    both_there(&world, 5).await;
    assert_eq!(world.sync().await.files_done, 5);
    worker.stop().await;

    world.reconfigure(&[("tiering.free_local_after", "0s")]);
    let stop = CancellationToken::new();
    assert_eq!(evict::pass(&world.context, WorkerId::new(), &stop).await.unwrap(), 10, "all local copies");
    execute(&world.context.db, "DELETE FROM leases").await.unwrap();
    assert_eq!(replication::pass(&world.context, &stop).await.unwrap(), 0);
    assert_eq!(states(&world).await, counted([("s3 present", 5)]));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_lost_by_one_store_is_repaired_from_the_other() {
    let world = twice().build().await;
    let user = world.user().await;
    let worker = world.start_worker();
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    both_there(&world, 1).await;
    worker.stop().await;
    let key = world.key(&file).await;
    world.direct.get("minio").unwrap().delete(&key).await.unwrap();
    assert_eq!(hash(&world, &file).await, pattern(1, 5_000).sha256(), "read from the other one");

    // The sync detects the loss, uses the other copy as source, and has the lost one made again.
    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1), "{run:?}");
    both_there(&world, 1).await;

    assert_eq!(world.stored("minio", &file).await, Some(pattern(1, 5_000).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cloud_has_the_configured_number_of_copies_and_a_lost_one_is_not_the_primary_location() {
    let world = World::with("tiering.cloud_replicas", 2).another_cloud("b2").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 2));
    assert_eq!(states(&world).await, counted([("b2 present", 1), ("minio present", 1), ("s3 present", 1)]));
    worker.stop().await;
    let home = texts(&world.context.db, "SELECT storage_location FROM files").await;
    let (home, other) = if home == ["s3"] { ("s3", "b2") } else { ("b2", "s3") };
    let mut conn = world.context.db.conn().await.unwrap();
    let clouds = ["s3", "b2"];
    let left =
        nightferry_core::db::replicas::mark_lost(&mut conn, file.object_id, home, &clouds, "gone", None)
            .await;
    assert_eq!(left.unwrap(), Some(2));
    drop(conn);
    let now =
        texts(&world.context.db, "SELECT storage_location || ' ' || (synced_at IS NOT NULL) FROM files")
            .await;
    assert_eq!(now, [format!("{other} true")], "the other cloud store, not the local one");
    let worker = world.start_worker();
    eventually("it is repaired", || async {
        world.sync().await;
        (world.replica(home, &file).await?.state == ReplicaState::Present).then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_one_of_two_replicated_stores_needs_no_copy_and_three_keep_two() {
    let world = twice().another_local("den").build().await;
    let user = world.user().await;
    let worker = world.start_worker();
    for seed in 0..4 {
        world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await;
    }
    eventually("two copies of each", || async {
        let keys = keys(&world, "den").await;
        (keys.len() == 4).then_some(())
    })
    .await;
    eventually("nothing is in progress", || async {
        (states(&world).await == counted([("den present", 4), ("minio present", 4)])).then_some(())
    })
    .await;

    drain(&world, "minio").await;
    drained(&world, "minio").await;
    eventually("there are two copies again", || async {
        let _ = replication::pass(&world.context, &CancellationToken::new()).await.unwrap();
        (states(&world).await == counted([("den present", 4), ("nas present", 4)])).then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}
