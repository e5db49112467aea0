//! Leases and fencing: two workers never copy the same object, and a worker that lost the lease cannot commit.

use std::collections::BTreeSet;

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::replicas::Finished;
use nightferry_core::db::runs::RunScope;
use nightferry_core::db::{replicas, runs};
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{claim, commit, reap, run};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{World, eventually, pattern};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_claims_never_return_the_same_copy() {
    let world = World::new().await;
    let user = world.user().await;
    for index in 0..60 {
        world.upload(user, &format!("{index}"), pattern(index, 100)).await;
    }
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();

    let claims = (0..12).map(|_| {
        let context = world.context.clone();
        tokio::spawn(
            async move { claim::next_batch(&context, requested.id, WorkerId::new(), 10).await.unwrap() },
        )
    });
    let mut seen = BTreeSet::new();
    let mut claimed = 0;
    for batch in futures_util::future::join_all(claims).await {
        for claim in batch.unwrap().claims {
            claimed += 1;
            seen.insert(claim.object_id);
        }
    }

    assert_eq!(claimed, seen.len(), "a copy was claimed twice");
    assert!(claimed > 30, "SKIP LOCKED should let most claims find work, only {claimed} of 60 were claimed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_its_lease_cannot_commit() {
    let world = World::with("tiering.lease", "500ms").set("tiering.heartbeat", "100ms").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let first = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
    assert_eq!(first.claims.len(), 1);

    // The first worker hangs; its lease expires and a second worker claims the copy.
    eventually("the lease expires", || async {
        (reap::leases(&world.context).await.unwrap() == 1).then_some(())
    })
    .await;
    let second = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
    assert_eq!(second.claims.len(), 1);

    // The first worker resumes and tries to commit.
    let late = Finished {
        object_id: file.object_id,
        store: "s3".to_owned(),
        token: first.claims[0].token,
        etag: "late".to_owned(),
        envelope: None,
        size: 1000,
    };
    assert!(commit::finish(&world.context, std::slice::from_ref(&late)).await.unwrap().is_empty());
    let mut conn = world.context.db.conn().await.unwrap();
    let rows = replicas::of_objects(&mut conn, &[file.object_id]).await.unwrap();
    let cloud = rows.iter().find(|row| row.store == "s3").unwrap();
    assert_eq!((cloud.state, cloud.etag.as_deref()), (ReplicaState::Copying, None));

    // The second worker can commit.
    let ours = Finished { token: second.claims[0].token, etag: "ours".to_owned(), ..late };
    assert_eq!(commit::finish(&world.context, &[ours]).await.unwrap().len(), 1);
    let counted = runs::find(&mut conn, requested.id).await.unwrap().unwrap();
    assert_eq!(counted.files_done, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_share_a_run_and_count_every_file_once() {
    let world = World::new().await;
    let user = world.user().await;
    for index in 0..80 {
        world.upload(user, &format!("{index}"), pattern(index, 2000)).await;
    }
    let workers = [world.start_worker(), world.start_worker(), world.start_worker()];

    let run = world.sync().await;

    assert_eq!(run.status, RunStatus::Succeeded);
    assert_eq!((run.files_total, run.files_done, run.files_failed), (80, 80, 0));
    assert_eq!(run.bytes_done, 80 * 2000);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_dead_worker_is_taken_over_by_another() {
    let world = World::with("tiering.lease", "600ms").set("tiering.heartbeat", "150ms").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    // Claimed and never finished.
    assert_eq!(
        claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap().claims.len(),
        1
    );

    let worker = world.start_worker();
    let run = world.ended(requested.id).await;

    assert_eq!(run.status, RunStatus::Succeeded);
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 1000).sha256()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_keeps_a_lease_for_as_long_as_the_copy_takes() {
    let world = World::with("tiering.lease", "2s").set("tiering.heartbeat", "200ms").build().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 1000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;

    // Two lease durations pass, and a second worker reclaims expired leases.
    let second = world.start_worker();
    let renewed = "SELECT 1 FROM replicas, runs WHERE replicas.state = 'copying' \
                   AND lease_until > runs.started_at + interval '6s'";
    eventually("the lease was renewed repeatedly", || async {
        (!texts(&world.context.db, renewed).await.is_empty()).then_some(())
    })
    .await;
    gate.open();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    assert_eq!(world.cloud.count(&Match::method(Method::PUT)), 1, "it was copied once");
    worker.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_lease_is_renewed_if_free_and_still_in_use() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 1000)).await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let worker = WorkerId::new();
    let batch = claim::next_batch(&world.context, requested.id, worker, 10).await.unwrap();
    // As after a database outage that was longer than a lease.
    execute(
        &world.context.db,
        "UPDATE replicas SET lease_until = now() - interval '1s' WHERE state = 'copying'",
    )
    .await
    .unwrap();
    let lease = world.context.config.tiering.lease;
    let mut conn = world.context.db.conn().await.unwrap();

    let renewed = replicas::renew_leases(&mut conn, worker, &[], lease).await.unwrap();
    assert!(renewed.is_empty(), "nothing is in progress");
    let tokens = [batch.claims[0].token];
    let renewed = replicas::renew_leases(&mut conn, WorkerId::new(), &tokens, lease).await.unwrap();
    assert!(renewed.is_empty(), "another worker");
    assert_eq!(replicas::renew_leases(&mut conn, worker, &tokens, lease).await.unwrap(), tokens);
    assert_eq!(replicas::reclaim_expired(&mut conn).await.unwrap(), 0);
}
