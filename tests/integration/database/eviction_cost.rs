//! The cost of selecting copies for eviction depends on the batch size, not on the number of copies.

use std::time::Duration;

use nightferry_core::db::replicas::{self, EvictionClaim, Order};
use nightferry_core::ids::{LeaseToken, WorkerId};
use nightferry_tests::harness::{World, database};

const COPIES: u32 = 30_000;
const BATCH: i64 = 100;

/// Files in both stores, without content: only the rows are read.
async fn synced(world: &World, spare_for: &str) {
    let user = world.user().await;
    let sql = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{user}', 'k' || n, 'stored', 'text/plain', 1, decode(repeat('00', 32), 'hex'), \
                    decode(repeat('00', 8), 'hex'), 'minio', now() FROM generate_series(1, {COPIES}) n RETURNING id, owner_id, key), \
         files AS ( \
             INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, content_type, \
                                storage_location) \
             SELECT m.id, m.owner_id, d.id, m.key, m.key, 1, 1, 'text/plain', 's3' \
             FROM made m JOIN folders d ON d.owner_id = m.owner_id RETURNING id, owner_id), \
         versions AS ( \
             INSERT INTO file_versions (file_id, number, object_id, created_by) SELECT id, 1, id, owner_id FROM files) \
         INSERT INTO replicas (object_id, store, state, verified_at, last_used_at, spare_since) \
         SELECT id, store, 'present', now() - interval '2 days', now() - interval '1 day' * random(), \
                CASE WHEN store = 'minio' THEN now() - interval '{spare_for}' * random() END \
         FROM made, unnest(ARRAY['minio', 's3']) AS store"
    );
    database::execute(&world.context.db, &sql).await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();
}

fn spare(after: Duration) -> Order<'static> {
    Order::EvictableCopy { rule: "default", after }
}

/// Number of rows read to find one batch, and number of rows found.
async fn cost(world: &World, order: Order<'static>) -> (i64, usize) {
    let claim = EvictionClaim {
        local: "minio",
        clouds: &["s3"],
        keeping: &[],
        grace: Duration::ZERO,
        worker: WorkerId::new(),
        token: LeaseToken::new(),
        lease: Duration::from_secs(60),
    };
    let (rows, found) = database::rows_read(&world.context.db, async |conn| {
        replicas::lock_evictable(conn, &claim, order, None, BATCH).await
    })
    .await;
    (rows, found.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn selecting_a_batch_of_evictable_copies_reads_one_batch_of_rows() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    synced(&world, "2 days").await;

    for order in [spare(Duration::from_secs(3600)), Order::LeastUsed] {
        let (rows, found) = cost(&world, order).await;
        assert_eq!(found as i64, BATCH);
        assert!(rows <= BATCH * 20, "{order:?} read {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn selecting_evictable_copies_reads_nothing_if_there_are_none() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    synced(&world, "1 hour").await;

    let (rows, found) = cost(&world, spare(Duration::from_secs(2 * 3600))).await;

    assert_eq!(found, 0);
    // The planner reads the ends of indexes.
    assert!(rows <= 50, "read {rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copies_of_one_rule_are_found_without_reading_those_of_others() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    synced(&world, "2 days").await;
    // A tenth is evicted by a rule, a tenth kept by another; these have been evictable the longest and are the least
    // used.
    for sql in [
        "UPDATE replicas SET free_rule = 'rare' WHERE store = 'minio' AND get_byte(uuid_send(object_id), 0) < 25",
        "UPDATE replicas SET free_rule = 'kept', keep_local = true, last_used_at = last_used_at - interval '9 days', \
             spare_since = spare_since - interval '9 days' \
         WHERE store = 'minio' AND get_byte(uuid_send(object_id), 0) > 230",
        "ANALYZE",
    ] {
        database::execute(&world.context.db, sql).await.unwrap();
    }

    for (rule, hours, batch) in
        [("rare", 1, BATCH), ("default", 1, BATCH), ("rare", 72, 0), ("no-such-rule", 0, 0)]
    {
        let order = Order::EvictableCopy { rule, after: Duration::from_secs(hours * 3600) };
        let (rows, found) = cost(&world, order).await;
        assert_eq!(found as i64, batch, "{order:?}");
        assert!(rows <= batch * 20 + 50, "{order:?} read {rows} rows");
    }
    let (rows, found) = cost(&world, Order::LeastUsed).await;
    assert_eq!(found as i64, BATCH);
    assert!(rows <= BATCH * 20, "read {rows} rows, including those kept by a rule");
}
