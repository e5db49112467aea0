//! Rebalancing concurrently with other operations: deleted, evicted and written files, drained stores, runs.

use std::time::Duration;

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::replicas::{self, Departing, Departure, EvictionCheck};
use nightferry_core::file::change;
use nightferry_core::file::trash;
use nightferry_core::ids::{LeaseToken, WorkerId};
use nightferry_core::tiering::relocate::rebalance;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;

use super::{counted, drain, drained, even_out, evened_out, hash, keys};

fn two() -> WorldBuilder {
    WorldBuilder::default().another_local("nas")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deleted_during_its_move_is_gone_everywhere_and_blocks_nothing() {
    let world = two().build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..6 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    let key = world.key(&files[0]).await;
    let gate = world.proxy("nas").gate(Match::method(Method::PUT).key_contains(key.as_str()), Hold::Request);
    let worker = world.start_worker();
    even_out(&world).await;
    gate.reached().await;

    trash::purge(&world.context, user, files[0].row.id, &Origin::default()).await.unwrap();
    world.upload(user, "new", pattern(9, 10_000)).await;
    gate.open();
    evened_out(&world).await;

    worker.stop().await;
    assert_invariants(&world).await;
    assert_eq!(states(&world).await, counted([("minio present", 4), ("nas present", 2)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_synced_and_evicted_during_its_move_does_not_come_back() {
    let world = two().set("tiering.free_local_after", "0s").set("tiering.evict_grace", "0s").build().await;
    let user = world.user().await;
    for seed in 0..6 {
        world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await;
    }
    let gate = world.proxy("nas").gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    even_out(&world).await;
    gate.reached_by(3).await;
    world.cloud.forget_requests();
    assert_eq!(world.sync().await.files_done, 6);
    eventually("copies that are not moved are evicted", || async {
        (keys(&world, "minio").await.len() == 3).then_some(())
    })
    .await;
    gate.open();
    evened_out(&world).await;

    eventually("moved copies are evicted in the target store", || async {
        (states(&world).await == counted([("s3 present", 6)])).then_some(())
    })
    .await;
    let objects = Match::method(Method::GET).key_contains("user-");
    assert_eq!(world.cloud.count(&objects), 0, "nothing was read from the cloud store");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_the_destination_during_rebalancing_moves_everything_back() {
    let world = two().set("tiering.concurrency", 1).set("tiering.batch_size", 1).build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..8 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    change::pin(&world.context, files[0].row.id, true, &Origin::default()).await.unwrap();
    let key = world.key(&files[2]).await;
    let gate = world.proxy("nas").gate(Match::method(Method::PUT).key_contains(key.as_str()), Hold::Request);
    let worker = world.start_worker();
    even_out(&world).await;
    gate.reached().await;

    drain(&world, "nas").await;
    gate.open();
    drained(&world, "nas").await;
    evened_out(&world).await;

    assert_eq!(states(&world).await, counted([("minio present", 8)]));
    assert!(keys(&world, "nas").await.is_empty());
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 10_000).sha256());
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_the_source_during_rebalancing_moves_everything() {
    let world = two().set("tiering.concurrency", 1).set("tiering.batch_size", 1).build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..8 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    let key = world.key(&files[2]).await;
    let gate = world.proxy("nas").gate(Match::method(Method::PUT).key_contains(key.as_str()), Hold::Request);
    let worker = world.start_worker();
    even_out(&world).await;
    gate.reached().await;

    drain(&world, "minio").await;
    gate.open();
    drained(&world, "minio").await;
    evened_out(&world).await;

    assert_eq!(states(&world).await, counted([("nas present", 8)]));
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 10_000).sha256());
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_copy_is_deleted_only_if_its_destination_still_exists_at_the_last_check() {
    let world = two().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10_000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
    // As after its copy was verified in the other store.
    let (from, to) = ("minio", "nas");
    let moved = format!(
        "INSERT INTO replicas (object_id, store, state, verified_at) VALUES ('{}', 'nas', 'present', now())",
        file.object_id
    );
    execute(&world.context.db, &moved).await.unwrap();
    execute(&world.context.db, "UPDATE replicas SET moves_to = 'nas' WHERE store = 'minio'").await.unwrap();
    let (token, mut conn) = (LeaseToken::new(), world.context.db.conn().await.unwrap());
    let lease = world.context.config.tiering.lease;
    let (worker, to, primary_stores) = (WorkerId::new(), [to], ["s3"]);
    let terms = Departure { store: from, to: &to, primary_stores: &primary_stores, worker, token, lease };

    let ours =
        replicas::claim_departures(&mut conn, terms, Departing::Sound, &[file.object_id]).await.unwrap();

    assert_eq!(ours.len(), 1);
    let check = EvictionCheck { store: from, moving_to: &[], token, least: Duration::ZERO, max_age: None };
    let look = async |conn: &mut _| {
        let checked = replicas::check_evictions(conn, check, &[file.object_id]).await.unwrap();
        checked.into_iter().map(|one| one.others).collect::<Vec<_>>()
    };
    let others = look(&mut conn).await;
    assert_eq!(others.iter().flatten().map(|other| other.store.as_str()).collect::<Vec<_>>(), ["nas"]);
    replicas::mark_lost(&mut conn, file.object_id, "nas", &["s3"], "gone", None).await.unwrap();
    let others = look(&mut conn).await;
    assert_eq!(others.len(), 1, "the lease is still held");
    assert!(others[0].is_empty(), "the copy in the cloud store is not sufficient");
    drop(conn);
    execute(&world.context.db, "UPDATE replicas SET lease_until = now() WHERE state = 'evicting'")
        .await
        .unwrap();
    execute(&world.context.db, "DELETE FROM replicas WHERE store = 'nas'").await.unwrap();
    let worker = world.start_worker();
    eventually("it is kept", || async {
        (world.replica("minio", &file).await?.state == ReplicaState::Present).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(hash(&world, &file).await, pattern(1, 10_000).sha256());
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_runs_continue_during_rebalancing_and_new_files_are_not_moved() {
    let world = two().build().await;
    let user = world.user().await;
    for seed in 0..10 {
        world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await;
    }
    let gate = world.proxy("nas").gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let begun = even_out(&world).await;
    gate.reached().await;
    for seed in 10..20 {
        let file = world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await;
        assert_eq!(file.row.storage_location, "minio", "uploads go to the main store as usual");
    }
    gate.open();
    assert_eq!(world.sync().await.files_done, 20);
    let ended = evened_out(&world).await;

    assert_eq!((begun.planned(), ended.moved()), ((5, 50_000), (5, 50_000)), "no more than was planned");
    assert_eq!(
        states(&world).await,
        counted([("minio present", 15), ("nas present", 5), ("s3 present", 20)])
    );
    assert_eq!(
        texts(&world.context.db, "SELECT 1 FROM replicas WHERE spare_since IS NULL AND store <> 's3'")
            .await
            .len(),
        0
    );
    let plan = rebalance::plan(&world.context, 5).await.unwrap();
    assert_eq!(plan.total(), (5, 50_000), "after another request, it continues");
    worker.stop().await;
    assert_invariants(&world).await;
}
