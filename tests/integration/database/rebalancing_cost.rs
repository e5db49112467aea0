//! The cost of selecting and tracking moves depends on the batch size, not on the size of the stores.

use std::time::Duration;

use nightferry_core::db::replicas;
use nightferry_core::ids::ObjectId;
use nightferry_tests::harness::{Catalogue, WorldBuilder, database};

const BATCH: i64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn selecting_starting_and_examining_moves_reads_one_batch_of_rows() {
    let world = WorldBuilder::default().with_files(Catalogue::Synced).build().await;
    let (db, middle) = (&world.context.db, ObjectId(uuid::Uuid::from_u128(1 << 126)));

    let mut chosen = Vec::new();
    for (to, may_move) in [("s3", 0), ("nas", BATCH)] {
        let (rows, found) =
            database::rows_read(db, async |conn| replicas::movable(conn, "minio", to, middle, BATCH).await)
                .await;
        assert_eq!(found.len() as i64, BATCH);
        assert_eq!(found.iter().filter(|replica| replica.may_move).count() as i64, may_move);
        assert!(rows <= BATCH * 20, "towards {to}: read {rows} rows");
        chosen = found.into_iter().map(|replica| replica.object_id).collect();
    }

    let (rows, begun) =
        database::rows_read(db, async |conn| replicas::begin_moves(conn, "minio", "nas", &chosen).await)
            .await;
    assert_eq!(begun.files, BATCH);
    assert!(rows <= BATCH * 40, "to start: read {rows} rows");

    let (rows, moving) =
        database::rows_read(db, async |conn| replicas::moving(conn, Duration::from_secs(300), 10_000).await)
            .await;
    assert_eq!(moving.len() as i64, BATCH);
    assert!(rows <= BATCH * 20, "to examine: read {rows} rows");

    let (rows, forgotten) = database::rows_read(db, async |conn| {
        assert_eq!(replicas::move_only_among(conn, &["minio", "nas"]).await?, 0);
        assert_eq!(replicas::retry_all_failed(conn).await?, 0);
        replicas::delete_queued_moves(conn).await
    })
    .await;
    assert_eq!(forgotten as i64, BATCH);
    assert!(rows <= BATCH * 40, "to cancel: read {rows} rows");
}
