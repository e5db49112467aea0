//! The cost of examining a drained store depends on the batch size, not on the size of the store.

use std::time::Duration;

use nightferry_core::db::drains;
use nightferry_core::db::replicas::{self, Departing, Departure};
use nightferry_core::ids::{LeaseToken, ObjectId, WorkerId};
use nightferry_tests::harness::catalogue::FILES;
use nightferry_tests::harness::{Catalogue, WorldBuilder, database};

const BATCH: i64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn examining_a_drained_store_reads_one_batch_of_rows() {
    let world = WorldBuilder::default().with_files(Catalogue::Synced).build().await;

    for (to, safe) in [("nas", 0), ("s3", BATCH)] {
        let (rows, found) = database::rows_read(&world.context.db, async |conn| {
            let after = ObjectId(uuid::Uuid::from_u128(1 << 126));
            replicas::leaving(conn, "minio", &[to], Duration::from_secs(300), after, BATCH).await
        })
        .await;
        assert_eq!(found.len() as i64, BATCH);
        assert_eq!(found.iter().filter(|replica| replica.is_safe).count() as i64, safe);
        assert!(rows <= BATCH * 20, "towards {to}: read {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_were_never_proved_cost_no_more_than_others() {
    let world = WorldBuilder::default().with_files(Catalogue::Synced).build().await;
    for sql in [
        "UPDATE replicas SET verified_at = NULL WHERE store = 'minio' AND get_byte(uuid_send(object_id), 15) < 25",
        "ANALYZE",
    ] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
    drains::begin(&mut world.context.db.conn().await.unwrap(), "minio", None).await.unwrap();

    let (rows, found) = database::rows_read(&world.context.db, async |conn| {
        let first = ObjectId(uuid::Uuid::nil());
        replicas::leaving(conn, "minio", &["s3"], Duration::from_secs(300), first, BATCH).await
    })
    .await;
    assert_eq!(found.len() as i64, BATCH);
    assert!(rows <= BATCH * 20, "selecting them read {rows} rows");

    let ids: Vec<ObjectId> = found.iter().map(|replica| replica.object_id).collect();
    let terms = Departure {
        store: "minio",
        to: &["s3"],
        primary_stores: &["s3"],
        worker: WorkerId::new(),
        token: LeaseToken::new(),
        lease: Duration::from_secs(60),
    };
    let (rows, claimed) = database::rows_read(&world.context.db, async |conn| {
        replicas::claim_departures(conn, terms, Departing::Sound, &ids).await
    })
    .await;
    assert_eq!(claimed.len() as i64, BATCH);
    assert!(rows <= BATCH * 40, "claiming them read {rows} rows");

    let (rows, left) =
        database::rows_read(&world.context.db, async |conn| drains::left_in(conn, "minio").await).await;
    assert_eq!(left.replicas + left.copies, FILES);
    assert!(rows <= FILES * 6, "counting read {rows} rows");
}
