//! The cost of examining a drained store depends on the batch size, not on the size of the store.

use std::time::Duration;

use nightferry_core::db::replicas;
use nightferry_core::ids::ObjectId;
use nightferry_tests::harness::{World, database};

const OBJECTS: u32 = 30_000;
const BATCH: i64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn examining_a_drained_store_reads_one_batch_of_rows() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let user = world.user().await;
    let sql = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{user}', 'k' || n, 'stored', 'text/plain', 1, decode(repeat('00', 32), 'hex'), \
                    decode(repeat('00', 8), 'hex'), 'minio', now() FROM generate_series(1, {OBJECTS}) n RETURNING id) \
         INSERT INTO replicas (object_id, store, state, verified_at) \
         SELECT id, store, 'present', now() FROM made, unnest(ARRAY['minio', 's3']) AS store"
    );
    database::execute(&world.context.db, &sql).await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();

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
