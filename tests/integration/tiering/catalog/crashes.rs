//! SIGKILL while a snapshot is written and while a catalogue is rebuilt.

use std::time::Duration;

use nightferry_core::catalog::{CatalogError, Source, verify};
use nightferry_core::store::SNAPSHOT_PREFIX;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

use super::{cross, dump, export, rebuild_from};

async fn world() -> World {
    let world = World::new().await;
    let user = world.user().await;
    for seed in 0..3 {
        world.upload(user, &format!("file {seed}"), pattern(seed, 1000)).await;
    }
    cross(&world).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_writing_a_snapshot_leaves_none_or_a_complete_one() {
    let world = world().await;
    let gate =
        world.cloud.gate(Match::method(Method::PUT).key_contains(SNAPSHOT_PREFIX), Hold::RequestBody(100));
    let process = world.start_process(&["catalog", "export"]).await;
    gate.reached().await;
    let busy = export(&world.context).await;
    assert!(matches!(busy, Err(CatalogError::Busy)), "one at a time: {busy:?}");

    process.kill();
    gate.open();
    world.expire_leases().await;
    let snapshot = export(&world.context).await.unwrap();

    let listed = world.direct.cloud().unwrap().list(SNAPSHOT_PREFIX, None, 10).await.unwrap().objects;
    assert!(listed.iter().any(|object| object.key == snapshot.key));
    // Data sent by the dead process may have become a snapshot: then it is complete.
    for object in listed {
        let stop = CancellationToken::new();
        let verified = verify(&world.context, Some(&object.key), true, |_, _| (), &stop).await.unwrap();
        assert_eq!((verified.copies, verified.bad_copies()), (6, 0));
    }
    let idle =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in %'";
    eventually("its transaction ends", || async {
        texts(&world.context.db, idle).await.is_empty().then_some(())
    })
    .await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_rebuilds_leaves_the_database_empty_and_the_next_fills_it() {
    for from_objects in [false, true] {
        let mut world = world().await;
        export(&world.context).await.unwrap();
        let before = world.lose_database(&[]).await;
        let gate = if from_objects {
            // The rows of some objects have been written, in a transaction that never ends.
            world.cloud.gate(Match::method(Method::HEAD).key_contains("-file_2"), Hold::Answer)
        } else {
            world.cloud.gate(Match::method(Method::GET).parameter("prefix", "user-"), Hold::Answer)
        };
        let arguments: &[&str] =
            if from_objects { &["catalog", "rebuild", "--from-objects"] } else { &["catalog", "rebuild"] };
        let process = world.start_process(arguments).await;
        gate.reached().await;

        process.kill();
        gate.open();

        let nothing = "SELECT id FROM users UNION ALL SELECT id FROM objects UNION ALL SELECT id FROM files";
        assert!(texts(&world.context.db, nothing).await.is_empty());
        let source = if from_objects { Source::Objects } else { Source::Newest };
        rebuild_from(&world.context, source).await.unwrap();
        assert_eq!(texts(&world.context.db, "SELECT id FROM files").await.len(), 3);
        if !from_objects {
            assert_eq!(dump(&world.context.db).await, dump(&before.db).await);
        }
        assert_invariants(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_snapshot_leaves_nothing_behind() {
    let mut world = world().await;
    let stop = CancellationToken::new();
    let gate = world.cloud.gate(Match::method(Method::PUT).key_contains(SNAPSHOT_PREFIX), Hold::Request);
    let writing = nightferry_core::catalog::export(&world.context, |_| (), &stop);
    let stopping = async {
        gate.reached().await;
        stop.cancel();
    };
    let (written, ()) = tokio::join!(writing, stopping);
    assert!(matches!(written, Err(CatalogError::Interrupted)), "{written:?}");
    gate.open();
    let started = std::time::Instant::now();
    export(&world.context).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(30), "the lease is released immediately");

    world.lose_database(&[]).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let origin = nightferry_core::db::audit::Origin::default();
    let options = nightferry_core::catalog::Options { source: Source::Newest, trial: false, origin: &origin };
    let stopped = nightferry_core::catalog::rebuild(&world.services.accounts, &options, |_| (), &stop).await;
    assert!(matches!(stopped, Err(CatalogError::Interrupted)), "{stopped:?}");
    assert!(texts(&world.context.db, "SELECT id FROM users").await.is_empty());
}
