//! Cancelling and planning a run take short transactions, whatever its backlog.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::replicas;
use nightferry_core::db::runs::RunScope;
use nightferry_core::ids::{RunId, WorkerId};
use nightferry_core::tiering::{claim, run};
use nightferry_tests::harness::database::{execute, execute_on, rows_read, texts};
use nightferry_tests::harness::{Catalogue, World, WorldBuilder, catalogue, eventually};

use super::claim_cost::backlog;

/// Copies released in one statement.
const BATCH: i64 = 2_000;
/// Objects planned in one step.
const PIECE: i64 = 5_000;

async fn queued_in(world: &World, run: RunId) -> i64 {
    let sql = format!("SELECT count(*) FROM replicas WHERE state = 'queued' AND run_id = '{run}'");
    texts(&world.context.db, &sql).await[0].parse().unwrap()
}

/// A running run with queued copies.
async fn running(queued: u32) -> (World, RunId) {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    backlog(&world, requested.id, queued).await;
    (world, requested.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_releases_one_batch_and_a_worker_the_rest() {
    let (world, id) = running(20_000).await;

    let cancelled = run::cancel(&world.context, id, None, &Origin::default()).await.unwrap();

    assert!(cancelled.status.is_active() && cancelled.is_stopping());
    assert_eq!(queued_in(&world, id).await, 20_000 - BATCH);
    let batch = claim::next_batch(&world.context, id, WorkerId::new(), 10).await.unwrap();
    assert!(batch.claims.is_empty(), "nothing of a run that is stopping is claimed");
    let worker = world.start_worker();
    assert_eq!(world.ended(id).await.status, RunStatus::Cancelled);
    worker.stop().await;
    assert_eq!(queued_in(&world, id).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_continue_ends_without_a_statement_over_its_whole_queue() {
    let (world, id) = running(5_000).await;

    run::stop(&world.context, id, "the keys are wrong").await.unwrap();

    assert_eq!(queued_in(&world, id).await, 5_000, "they are released when the run is settled");
    let ended = run::settle(&world.context, id).await.unwrap().unwrap();
    assert_eq!((ended.status, ended.error.as_deref()), (RunStatus::Failed, Some("the keys are wrong")));
    assert_eq!(queued_in(&world, id).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_a_batch_reads_one_batch_of_rows() {
    let (world, id) = running(40_000).await;
    for more in [0, 40_000] {
        if more > 0 {
            backlog(&world, id, more).await;
        }
        let (rows, remain) =
            rows_read(&world.context.db, async |conn| replicas::release_queued(conn, id, 100).await).await;
        assert!(remain);
        assert!(rows <= 100 * 20, "read {rows} rows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_is_committed_in_steps() {
    let world = WorldBuilder::default().with_files(Catalogue::Uploaded).build().await;
    const { assert!(catalogue::FILES > PIECE) };
    let requested = world.request_run(RunScope::default()).await;
    // The last copy of the plan waits for this transaction.
    let mut conn = world.context.db.conn().await.unwrap();
    execute_on(&mut conn, "BEGIN").await;
    let last = "INSERT INTO replicas (object_id, store, state, copy_reason) \
                SELECT id, 's3', 'queued', 'policy' FROM objects ORDER BY id DESC LIMIT 1";
    assert_eq!(execute_on(&mut conn, last).await, 1);

    let context = world.context.clone();
    let planning = tokio::spawn(async move { run::start_queued(&context).await.unwrap() });
    eventually("the first steps are committed while the last one waits", || async {
        let run = run::find(&world.context, requested.id).await.unwrap().run;
        (run.status == RunStatus::Queued && run.files_total >= PIECE).then_some(())
    })
    .await;
    execute_on(&mut conn, "ROLLBACK").await;
    drop(conn);

    let started = planning.await.unwrap().unwrap();
    assert_eq!((started.status, started.files_total), (RunStatus::Running, catalogue::FILES));
    assert_eq!(queued_in(&world, requested.id).await, catalogue::FILES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_while_it_is_planned_ends() {
    let world = WorldBuilder::default().with_files(Catalogue::Uploaded).build().await;
    let requested = world.request_run(RunScope::default()).await;
    let context = world.context.clone();
    let planning = tokio::spawn(async move { run::start_queued(&context).await.unwrap() });

    run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();

    planning.await.unwrap();
    let worker = world.start_worker();
    assert_eq!(world.ended(requested.id).await.status, RunStatus::Cancelled);
    worker.stop().await;
    assert_eq!(queued_in(&world, requested.id).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_run_continues_is_known_from_the_first_copy_of_each_priority() {
    let (world, id) = running(20_000).await;
    let db = &world.context.db;
    let sql = "UPDATE replicas SET priority = 5, not_before = now() + interval '1 day' \
               WHERE state = 'queued' AND get_byte(uuid_send(object_id), 0) < 25";
    for sql in [sql, "ANALYZE"] {
        execute(db, sql).await.unwrap();
    }

    let (rows, due) = rows_read(db, async |conn| replicas::next_due(conn, id).await).await;

    assert!(due.unwrap() <= chrono::Utc::now() + chrono::Duration::minutes(5));
    assert!(rows <= 100, "read {rows} rows");
}
