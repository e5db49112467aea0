//! Counts that are shown often are kept by the database: reading them reads no replica.

use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::replicas::{self, StateCount};
use nightferry_core::db::{audit::Origin, drains};
use nightferry_core::file::trash;
use nightferry_core::tiering::reap;
use nightferry_tests::harness::database::{execute, rows_read};
use nightferry_tests::harness::invariants::assert_counts_match_rows;
use nightferry_tests::harness::{Catalogue, World, WorldBuilder, assert_invariants, catalogue, pattern};

/// Rows of the counts, and what the planner reads.
const FEW: i64 = 200;

async fn synced() -> World {
    WorldBuilder::default().with_files(Catalogue::Synced).build().await
}

fn present(counts: &[StateCount], store: &str) -> Option<i64> {
    let found = counts.iter().find(|count| count.store == store && count.state == ReplicaState::Present);
    found.map(|count| count.replicas)
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_the_progress_of_a_drain_read_no_replica() {
    let world = synced().await;
    let db = &world.context.db;

    let (rows, counts) = rows_read(db, async |conn| replicas::count_by_state(conn).await).await;
    assert_eq!(present(&counts, "minio"), Some(catalogue::FILES));
    assert!(rows <= FEW, "read {rows} rows");

    let (rows, used) = rows_read(db, async |conn| replicas::used_bytes_in(conn, "minio").await).await;
    assert_eq!(used, catalogue::FILES * (catalogue::FILES + 1) / 2);
    assert!(rows <= FEW, "read {rows} rows");

    for (store, replicas) in [("minio", catalogue::FILES), ("empty", 0)] {
        let (rows, left) = rows_read(db, async |conn| drains::left_in(conn, store).await).await;
        assert_eq!((left.replicas, left.is_nothing()), (replicas, replicas == 0));
        assert!(rows <= FEW, "read {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_follow_uploads_syncs_and_deletions() {
    let world = World::new().await;
    let user = world.user().await;
    let kept = world.upload(user, "kept", pattern(1, 700)).await;
    let gone = world.upload(user, "gone", pattern(2, 300)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 2);
    worker.stop().await;
    trash::purge(&world.context, user, gone.row.id, &Origin::default()).await.unwrap();
    reap::pass(&world.context).await.unwrap();
    let suspect = format!(
        "UPDATE replicas SET state = 'lost', suspect_since = now() WHERE store = 's3' AND object_id = '{}'",
        kept.object_id
    );
    execute(&world.context.db, &suspect).await.unwrap();

    for folded in [false, true] {
        if folded {
            reap::counts(&world.context).await.unwrap();
        }
        assert_counts_match_rows(&world).await;
        let mut conn = world.context.db.conn().await.unwrap();
        let counts = replicas::count_by_state(&mut conn).await.unwrap();
        let rows: Vec<_> = counts
            .iter()
            .map(|row| (row.store.as_str(), row.state, row.replicas, row.bytes, row.suspects))
            .collect();
        let expected = [("minio", ReplicaState::Present, 1, 700, 0), ("s3", ReplicaState::Lost, 1, 700, 1)];
        assert_eq!(rows, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_older_than_the_counts_are_counted_once() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "before", pattern(1, 700)).await;
    // As after the upgrade of a database with replicas.
    for table in ["replica_count_base", "replica_counts", "replica_count_changes"] {
        execute(&world.context.db, &format!("DELETE FROM {table}")).await.unwrap();
    }
    world.upload(user, "after", pattern(2, 300)).await;
    let counted = async || {
        let mut conn = world.context.db.conn().await.unwrap();
        replicas::used_bytes_in(&mut conn, "minio").await.unwrap()
    };
    assert_eq!(counted().await, 1000, "the rows are counted until then");

    let calls = tokio::join!(reap::complete_counts(&world.context), reap::complete_counts(&world.context));
    let did_it = [calls.0.unwrap(), calls.1.unwrap()];

    assert_eq!(did_it.iter().filter(|did_it| **did_it).count(), 1);
    assert_eq!(counted().await, 1000);
    world.upload(user, "later", pattern(3, 50)).await;
    assert_eq!(counted().await, 1050);
    assert_invariants(&world).await;
}
