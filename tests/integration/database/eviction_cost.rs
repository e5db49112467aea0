//! The cost of selecting copies for eviction depends on the batch size, not on the number of copies, and the number of
//! statements not even on the batch size.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::connection::InstrumentationEvent;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use nightferry_core::db::replicas::{self, EvictableCopy, EvictionCheck, EvictionClaim, Order};
use nightferry_core::error::Result;
use nightferry_core::ids::{LeaseToken, ObjectId, WorkerId};
use nightferry_core::object::identity;
use nightferry_core::tiering::evict;
use nightferry_tests::harness::fault_proxy::Fault;
use nightferry_tests::harness::{Catalogue, WorkerHandle, World, WorldBuilder, catalogue, database, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const BATCH: i64 = 100;

async fn synced() -> World {
    WorldBuilder::default().with_files(Catalogue::Synced).build().await
}

fn spare(after: Duration) -> Order<'static> {
    Order::ByRule { rule: "default", after }
}

/// Locks the evictable ones of the next copies after `after`.
async fn next(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    order: Order<'_>,
    after: Option<(DateTime<Utc>, ObjectId)>,
) -> Result<Vec<EvictableCopy>> {
    let next = replicas::next_in_order(conn, claim, order, after, BATCH).await?;
    let ids: Vec<ObjectId> = next.iter().map(|copy| copy.object_id).collect();
    replicas::lock_evictable(conn, claim, order, &ids).await
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
    let (rows, found) =
        database::rows_read(&world.context.db, async |conn| next(conn, &claim, order, None).await).await;
    (rows, found.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn selecting_a_batch_of_evictable_copies_reads_one_batch_of_rows() {
    let world = synced().await;

    for order in [spare(Duration::from_secs(3600)), Order::LeastUsed] {
        let (rows, found) = cost(&world, order).await;
        assert_eq!(found as i64, BATCH);
        assert!(rows <= BATCH * 20, "{order:?} read {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn selecting_evictable_copies_reads_nothing_if_there_are_none() {
    let world = synced().await;

    let (rows, found) = cost(&world, spare(Duration::from_secs(49 * 3600))).await;

    assert_eq!(found, 0);
    // The planner reads the ends of indexes.
    assert!(rows <= 50, "read {rows} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copies_of_one_rule_are_found_without_reading_those_of_others() {
    let world = synced().await;
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
        let order = Order::ByRule { rule, after: Duration::from_secs(hours * 3600) };
        let (rows, found) = cost(&world, order).await;
        assert_eq!(found as i64, batch, "{order:?}");
        assert!(rows <= batch * 20 + 50, "{order:?} read {rows} rows");
    }
    let (rows, found) = cost(&world, Order::LeastUsed).await;
    assert_eq!(found as i64, BATCH);
    assert!(rows <= BATCH * 20, "read {rows} rows, including those kept by a rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn checking_a_batch_before_its_deletion_reads_the_rows_of_the_batch() {
    let world = synced().await;
    let (token, worker) = (LeaseToken::new(), WorkerId::new());
    let claim = EvictionClaim {
        local: "minio",
        clouds: &["s3"],
        keeping: &[],
        grace: Duration::ZERO,
        worker,
        token,
        lease: Duration::from_secs(60),
    };
    let mut conn = world.context.db.conn().await.unwrap();
    let order = spare(Duration::from_secs(3600));
    let batch = next(&mut conn, &claim, order, None).await.unwrap();
    let ids: Vec<ObjectId> = batch.iter().map(|copy| copy.object_id).collect();
    replicas::claim_evictions(&mut conn, &claim, order.reason(), &ids).await.unwrap();
    drop(conn);
    let max_age = Some(Duration::from_secs(3600));
    let check = EvictionCheck { store: "minio", moving_to: &[], token, least: Duration::ZERO, max_age };

    let (rows, checked) = database::rows_read(&world.context.db, async |conn| {
        replicas::check_evictions(conn, check, &ids).await
    })
    .await;

    assert_eq!(checked.len() as i64, BATCH);
    assert!(checked.iter().all(|one| one.others.len() == 1 && one.others[0].is_old));
    assert!(rows <= BATCH * 20, "read {rows} rows");
}

/// Number of statements of a pass over this many evictable copies. With `refused`, the other copies cannot be checked,
/// and all copies are kept.
async fn statements(files: u64, refused: bool) -> u64 {
    // With one connection, all statements can be counted on it.
    let world = World::with("database.pool_size", 1).set("tiering.free_local_after", "0s").build().await;
    let user = world.user().await;
    for seed in 0..files {
        world.upload(user, &format!("{seed}"), pattern(seed, 100)).await;
    }
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.files_done, files as i64);
    worker.stop().await;
    if refused {
        world.cloud.add(Fault::status(403, "AccessDenied").on(Method::HEAD).key_contains("user-"));
    }
    identity::check_all(&world.context).await;
    let sent = Arc::new(AtomicU64::new(0));
    {
        let mut conn = world.context.db.conn().await.unwrap();
        let conn: &mut AsyncPgConnection = &mut conn;
        let count = sent.clone();
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if matches!(event, InstrumentationEvent::FinishQuery { .. }) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }

    let evicted = evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap();

    assert_eq!(evicted as u64, if refused { 0 } else { files });
    sent.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_statements_of_a_batch_does_not_depend_on_its_size() {
    for refused in [false, true] {
        let (few, many) = (statements(3, refused).await, statements(40, refused).await);
        assert!(few > 0);
        assert_eq!(few, many, "refused: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_cannot_be_evicted_are_passed_over_in_batches() {
    let world = synced().await;
    // Everything is pinned: nothing can be evicted, however far one looks.
    database::execute(&world.context.db, "UPDATE files SET pinned = true").await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();

    for order in [spare(Duration::from_secs(3600)), Order::LeastUsed] {
        let (rows, found) = cost(&world, order).await;
        assert_eq!(found, 0);
        assert!(rows <= BATCH * 20, "{order:?} read {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_continues_where_the_last_one_stopped() {
    let settings =
        WorldBuilder::default().with_files(Catalogue::Synced).set("tiering.free_local_after", "0s");
    let world = settings.set("tiering.evict_grace", "1h").build().await;
    database::execute(&world.context.db, "UPDATE files SET pinned = true").await.unwrap();
    identity::check_all(&world.context).await;
    let places = "SELECT ordering || ' ' || extract(epoch FROM at) FROM eviction_places ORDER BY 1";

    let mut seen = Vec::new();
    for _ in 0..2 {
        let evicted = evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap();
        assert_eq!(evicted, 0);
        seen.push(database::texts(&world.context.db, places).await);
    }

    assert_eq!((seen[0].len(), seen[1].len()), (1, 1), "a pass over {} copies stops early", catalogue::FILES);
    assert_ne!(seen[0], seen[1], "the second pass has examined other copies");
    // At the end, the next pass starts again.
    for _ in 0..2 {
        evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap();
        seen.push(database::texts(&world.context.db, places).await);
    }
    assert!(seen[2..].iter().any(Vec::is_empty), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_of_a_dead_worker_are_taken_over_in_batches() {
    let world = synced().await;
    for sql in [
        "UPDATE replicas SET state = 'evicting', evict_reason = 'policy', lease_token = gen_random_uuid(), \
             lease_worker = gen_random_uuid(), lease_until = now() - interval '1 hour' WHERE store = 'minio'",
        "ANALYZE",
    ] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
    let claim = EvictionClaim {
        local: "minio",
        clouds: &[],
        keeping: &[],
        grace: Duration::ZERO,
        worker: WorkerId::new(),
        token: LeaseToken::new(),
        lease: Duration::from_secs(60),
    };

    let (rows, taken) = database::rows_read(&world.context.db, async |conn| {
        replicas::reclaim_evictions(conn, &claim, BATCH).await
    })
    .await;

    assert_eq!(taken.len() as i64, BATCH);
    assert!(rows <= BATCH * 20, "read {rows} rows");
}
