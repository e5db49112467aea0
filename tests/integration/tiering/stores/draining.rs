//! Draining a store: the destinations of its files, concurrent writes, and uninterrupted reads.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::RunScope;
use nightferry_core::error::{Error, Noun};
use nightferry_core::file::details::FileView;
use nightferry_core::file::{change, upload};
use nightferry_core::tiering::relocate::drain as draining;
use nightferry_core::tiering::{run, stores};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::world::request;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;

use super::{counted, drain, drained, hash, keys, waits_for};

const MIB: u64 = 1024 * 1024;

/// Reads every file (seed, size) repeatedly.
async fn keep_reading(world: &World, files: &[(FileView, u64, u64)]) {
    loop {
        for (file, seed, size) in files {
            assert_eq!(hash(world, file).await, pattern(*seed, *size).sha256(), "readable throughout");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_store_is_drained_while_files_are_read_and_written() {
    let world = WorldBuilder::default()
        .another_local("nas")
        .set("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .build()
        .await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..20 {
        files.push((
            world.upload(user, &format!("{seed}"), pattern(seed, 9_000 + seed)).await,
            seed,
            9_000 + seed,
        ));
    }
    files.push((world.upload(user, "large", pattern(99, 20 * MIB)).await, 99, 20 * MIB));
    change::pin(&world.context, files[3].0.row.id, true, &Origin::default()).await.unwrap();
    let worker = world.start_worker();
    // Half of the files are synced, which does not affect where their local copies are kept.
    assert_eq!(world.sync().await.files_done, 21);
    let later = world.upload(user, "later", pattern(50, 3_000)).await;
    files.push((later, 50, 3_000));

    let begun = drain(&world, "minio").await;
    assert_eq!((begun.drain.replicas_total, begun.left.replicas), (22, 22));
    let meanwhile = world.upload(user, "meanwhile", pattern(51, 4_000)).await;
    assert_eq!(
        meanwhile.row.storage_location, "nas",
        "nothing new is written to a store that is being drained"
    );
    files.push((meanwhile, 51, 4_000));
    tokio::select! {
        _ = drained(&world, "minio") => {}
        () = keep_reading(&world, &files) => {}
    }

    assert!(keys(&world, "minio").await.is_empty());
    assert_eq!(keys(&world, "nas").await.len(), 23);
    assert_eq!(world.sync().await.files_done, 2, "the rest is synced as usual, from the other store");
    assert_eq!(states(&world).await, counted([("nas present", 23), ("s3 present", 23)]));
    for (file, seed, size) in &files {
        assert_eq!(hash(&world, file).await, pattern(*seed, *size).sha256());
    }
    let view = stores::list(&world.context).await.unwrap();
    assert_eq!(
        view.iter().map(|store| (store.name.as_str(), store.state())).next(),
        Some(("minio", "drained"))
    );
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_a_cloud_store_moves_its_files_and_their_primary_location_to_the_other() {
    let world = World::with("tiering.free_local_after", "0s").another_cloud("b2").build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..10 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await);
    }
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 10);
    eventually("only the cloud store has copies", || async {
        (states(&world).await == counted([("s3 present", 10)])).then_some(())
    })
    .await;

    drain(&world, "s3").await;
    drained(&world, "s3").await;

    assert_eq!(states(&world).await, counted([("b2 present", 10)]));
    assert!(keys(&world, "s3").await.is_empty());
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 5_000).sha256());
        assert_eq!(world.replica("b2", file).await.unwrap().rule.as_deref(), Some("default"));
    }
    let primary_stores = texts(
        &world.context.db,
        "SELECT DISTINCT storage_location || ' ' || (synced_at IS NOT NULL) FROM files",
    )
    .await;
    assert_eq!(primary_stores, ["b2 true"]);
    // New uploads go there too.
    let new = world.upload(user, "new", pattern(77, 100)).await;
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    eventually("it is evicted", || async { world.replica("minio", &new).await.is_none().then_some(()) })
        .await;
    assert!(keys(&world, "s3").await.is_empty());
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_local_store_is_drained_by_policy_and_rejects_uploads() {
    let world = World::with("policy.rules.1.name", "tiny")
        .set("policy.rules.1.max_size", "100B")
        .set("policy.rules.1.stores", "b2")
        .another_cloud("b2")
        .build()
        .await;
    let user = world.user().await;
    let tiny = world.upload(user, "tiny", pattern(1, 50)).await;
    let other = world.upload(user, "other", pattern(2, 5_000)).await;
    change::pin(&world.context, other.row.id, true, &Origin::default()).await.unwrap();
    let worker = world.start_worker();

    drain(&world, "minio").await;
    let refused = upload::receive(&world.services.files, request(user, "no"), &mut pattern(3, 10)).await;
    assert!(matches!(refused, Err(Error::NoLocalStore)), "{refused:?}");
    drained(&world, "minio").await;

    assert_eq!(states(&world).await, counted([("b2 present", 1), ("s3 present", 1)]));
    assert_eq!(world.replica("b2", &tiny).await.unwrap().rule.as_deref(), Some("tiny"));
    assert_eq!(hash(&world, &tiny).await, pattern(1, 50).sha256());
    assert_eq!(hash(&world, &other).await, pattern(2, 5_000).sha256(), "pinned, and readable");

    assert!(draining::cancel(&world.context, "minio", None, &Origin::default()).await.unwrap());
    assert!(
        !draining::cancel(&world.context, "minio", None, &Origin::default()).await.unwrap(),
        "once is enough"
    );
    assert_eq!(world.upload(user, "yes", pattern(4, 10)).await.row.storage_location, "minio");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_cloud_store_is_drained_to_the_local_one() {
    let world = World::with("tiering.free_local_after", "0s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("it is evicted", || async { world.replica("minio", &file).await.is_none().then_some(()) })
        .await;

    drain(&world, "s3").await;
    drained(&world, "s3").await;

    assert_eq!(states(&world).await, counted([("minio present", 1)]));
    let primary_stores =
        texts(&world.context.db, "SELECT storage_location || ' ' || (synced_at IS NULL) FROM files").await;
    assert_eq!(primary_stores, ["minio true"]);
    assert_eq!(world.sync().await.files_total, 0, "nothing is planned for it");
    draining::cancel(&world.context, "s3", None, &Origin::default()).await.unwrap();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("it is evicted again", || async {
        world.replica("minio", &file).await.is_none().then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_started_before_the_drain_succeeds_and_is_moved() {
    let world = WorldBuilder::default().another_local("nas").build().await;
    let user = world.user().await;
    let gate = world.local.gate(Match::method(Method::PUT).key_contains("-slow"), Hold::Request);
    let worker = world.start_worker();
    let uploading = async { world.upload(user, "slow", pattern(1, 5_000)).await };
    let draining = async {
        gate.reached().await;
        drain(&world, "minio").await;
        let reason = waits_for(&world, "minio", "whose upload to minio").await;
        gate.open();
        reason
    };

    let (file, _) = tokio::join!(uploading, draining);

    drained(&world, "minio").await;
    assert!(world.replica("minio", &file).await.is_none());
    assert_eq!(hash(&world, &file).await, pattern(1, 5_000).sha256());
    assert_eq!(keys(&world, "nas").await.len(), 1);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_queued_for_a_drained_store_are_redirected_and_the_run_ends() {
    let world = WorldBuilder::default()
        .another_cloud("b2")
        .set("tiering.concurrency", 1)
        .set("tiering.batch_size", 1)
        .build()
        .await;
    let user = world.user().await;
    for seed in 0..5 {
        world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await;
    }
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let run = world.request_run(RunScope::default()).await;
    gate.reached().await;

    drain(&world, "s3").await;
    gate.open();

    let run = world.ended(run.id).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    assert_eq!(run.files_total, run.files_done, "dropped copies no longer count: {run:?}");
    drained(&world, "s3").await;
    world.sync().await;
    assert_eq!(states(&world).await, counted([("b2 present", 5), ("minio present", 5)]));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_not_drained_into_each_other() {
    let world = World::new().await;
    drain(&world, "minio").await;
    let refused = draining::begin(&world.context, "s3", None, &Origin::default()).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let unknown = draining::begin(&world.context, "nowhere", None, &Origin::default()).await;
    assert!(matches!(unknown, Err(Error::NotFound(Noun::Store))), "{unknown:?}");
    let again = drain(&world, "minio").await;
    assert_eq!(again.drain.replicas_total, 0, "a second request changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_deleted_while_its_drain_is_undone_is_synced_again() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    let gate = world.cloud.gate(Match::method(Method::DELETE), Hold::Request);
    drain(&world, "s3").await;
    gate.reached().await;

    draining::cancel(&world.context, "s3", None, &Origin::default()).await.unwrap();
    gate.open();
    eventually("its copy in the cloud store is deleted", || async {
        world.replica("s3", &file).await.is_none().then_some(())
    })
    .await;

    let next = world.sync().await;
    assert_eq!((next.files_total, next.files_done), (1, 1));
    assert_eq!(states(&world).await, counted([("minio present", 1), ("s3 present", 1)]));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_wait_for_interrupted_copies_to_a_drained_store() {
    let world = WorldBuilder::default().another_cloud("b2").build().await;
    let user = world.user().await;
    for seed in 0..3 {
        world.upload(user, &format!("{seed}"), pattern(seed, 1_000)).await;
    }
    let requested = world.request_run(RunScope::default()).await;
    assert_eq!(run::start_queued(&world.context).await.unwrap().unwrap().files_total, 3);
    let tried = "UPDATE replicas SET attempts = 1, last_error = 'slow down' WHERE store = 's3'";
    assert_eq!(execute(&world.context.db, tried).await.unwrap(), 3);

    drain(&world, "s3").await;

    let ended = run::settle(&world.context, requested.id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.files_total, ended.bytes_total), (RunStatus::Succeeded, 0, 0));
    let worker = world.start_worker();
    drained(&world, "s3").await;
    assert_eq!(world.sync().await.files_done, 3);
    assert_eq!(states(&world).await, counted([("minio present", 3), ("b2 present", 3)]));
    worker.stop().await;
    assert_invariants(&world).await;
}
