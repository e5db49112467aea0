//! The cost of examining a drained store depends on the batch size, not on the size of the store.

use std::time::Duration;

use nightferry_core::db::replicas;
use nightferry_core::ids::ObjectId;
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
