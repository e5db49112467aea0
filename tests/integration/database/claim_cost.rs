//! The cost of claiming the next batch depends on the batch size, not on the backlog.

use nightferry_core::db::runs::RunScope;
use nightferry_core::tiering::run;
use nightferry_tests::harness::{World, database};

/// Adds `count` queued replicas to the active run, without content: only the queue is read.
pub(super) async fn backlog(world: &World, run: nightferry_core::ids::RunId, count: u32) {
    let user = world.user().await;
    let sql = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{user}', gen_random_uuid()::text, 'stored', 'text/plain', 1, decode(repeat('00', 32), 'hex'), \
                    decode(repeat('00', 8), 'hex'), 'minio', now() FROM generate_series(1, {count}) RETURNING id) \
         INSERT INTO replicas (object_id, store, state, run_id, object_size) \
         SELECT id, 's3', 'queued', '{run}', 1000 * random() FROM made"
    );
    database::execute(&world.context.db, &sql).await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_reads_one_batch_of_index_entries() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    backlog(&world, requested.id, 20_000).await;

    // The part of the claim that selects the batch, as seen by the planner.
    let plan = database::texts(
        &world.context.db,
        &format!(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS) SELECT object_id, store FROM replicas \
             WHERE run_id = '{}' AND state = 'queued' AND not_before <= now() \
             ORDER BY priority DESC, not_before, object_id LIMIT 10 FOR UPDATE SKIP LOCKED",
            requested.id
        ),
    )
    .await
    .join("\n");

    assert!(plan.contains("replicas_claim_idx"), "{plan}");
    assert!(!plan.contains("Sort") && !plan.contains("Seq Scan"), "{plan}");
}

/// The number of buffers that the query plan of a batch reads, and the plan.
async fn cost_of(world: &World, run: nightferry_core::ids::RunId, which: &str, order: &str) -> (u64, String) {
    let plan = database::texts(
        &world.context.db,
        &format!(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS) SELECT object_id, store FROM replicas \
             WHERE run_id = '{run}' AND state = 'queued' AND {which} \
             ORDER BY priority DESC, {order}, object_id LIMIT 10 FOR UPDATE SKIP LOCKED",
        ),
    )
    .await;
    let number = |line: &str, name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name))
            .map_or(0, |text| text.parse().unwrap())
    };
    // The first line of buffers is the total; the lines of the planning phase come last.
    let line = plan.iter().find(|line| line.contains("Buffers: shared")).unwrap();
    (number(line, "hit=") + number(line, "read="), plan.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_uses_an_index_and_its_cost_is_independent_of_the_backlog() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let by_size = "attempts = 0 AND object_size IS NOT NULL AND not_before <= now()";
    let orders = [
        ("replicas_claim_idx", "not_before <= now()", "not_before"),
        ("replicas_claim_smallest_idx", by_size, "object_size"),
        ("replicas_claim_largest_idx", by_size, "object_size DESC"),
    ];

    let mut costs = Vec::new();
    for more in [2_000, 38_000] {
        backlog(&world, requested.id, more).await;
        for (index, which, order) in orders {
            let (cost, plan) = cost_of(&world, requested.id, which, order).await;
            assert!(plan.contains(index), "{plan}");
            assert!(!plan.contains("Sort") && !plan.contains("Seq Scan"), "{plan}");
            costs.push(cost);
        }
    }

    // An index can be one level higher, and a row can have moved to another page.
    let (few, many) = costs.split_at(orders.len());
    assert!(few.iter().zip(many).all(|(few, many)| *many <= few + 20), "{few:?} {many:?}");
}
