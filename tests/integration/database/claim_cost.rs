//! "Next batch" costs the size of the batch, whatever the backlog.

use nightferry_core::db::runs::RunScope;
use nightferry_core::tiering::run;
use nightferry_tests::harness::{World, database};

/// Puts `count` queued replicas into the active run, without bytes: only the queue is looked at.
async fn backlog(world: &World, run: nightferry_core::ids::RunId, count: u32) {
    let user = world.user().await;
    let sql = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{user}', 'k' || n, 'stored', 'text/plain', 1, decode(repeat('00', 32), 'hex'), \
                    decode(repeat('00', 8), 'hex'), 'minio', now() FROM generate_series(1, {count}) n RETURNING id) \
         INSERT INTO replicas (object_id, store, state, run_id) SELECT id, 's3', 'queued', '{run}' FROM made"
    );
    database::execute(&world.context.db, &sql).await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_reads_a_batch_of_index_entries_and_no_more() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    backlog(&world, requested.id, 20_000).await;

    // The part of the claim that finds the batch, as the planner sees it.
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
