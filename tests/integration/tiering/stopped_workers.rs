//! A worker that lost its lease without noticing changes nothing at the destination any more.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_core::file::trash;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::copy::{self, CopyError};
use nightferry_core::tiering::{claim, reap, run};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;

/// Parts of 8 MiB, one after the other.
fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.part_concurrency", 1)
}

fn part(number: u32) -> Match {
    Match::method(Method::PUT).parameter("partNumber", number.to_string())
}

/// Deletes an object, or aborts an upload.
fn deletions() -> Match {
    Match::any().and(|request| request.method == Method::DELETE || Match::deletions().holds(request))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_lease_sends_no_part_and_aborts_no_upload() {
    let world = world().build().await;
    let user = world.user().await;
    let file = world.upload(user, "large", pattern(1, 20 * MIB)).await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let gate = world.cloud.gate(part(2), Hold::Answer);
    // As for a worker whose upload was completed or replaced by the next holder of the lease.
    let forgotten = world.cloud.add(Fault::status(404, "NoSuchUpload").matching(part(3)).times(1));
    let first = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
    let lease = first.lease_of(&first.claims[0]);
    let engine = world.services.engine.clone();
    let claimed = first.claims[0].clone();
    let copying = tokio::spawn(async move { copy::copy(&engine, &claimed, &lease).await });
    gate.reached().await;

    // The first worker is stopped for longer than its lease, and another one takes over the copy with its upload.
    world.expire_leases().await;
    assert_eq!(reap::leases(&world.context).await.unwrap(), 1);
    let second = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
    assert_eq!(second.claims.len(), 1);
    let upload = second.claims[0].upload_id.clone().unwrap();
    gate.open();

    let ended = copying.await.unwrap();
    assert!(matches!(ended, Err(CopyError::LeaseLost)), "{ended:?}");
    assert_eq!(world.cloud.count(&part(3)), 0, "no further part is sent");
    assert_eq!(world.cloud.count(&deletions()), 0, "the upload belongs to the other worker now");
    let uploads = world.direct.cloud().unwrap().list_multipart_uploads("").await.unwrap();
    assert!(uploads.iter().any(|listed| listed.upload_id.as_str() == upload));
    forgotten.remove();

    let copied =
        copy::copy(&world.services.engine, &second.claims[0], &second.lease_of(&second.claims[0])).await;

    assert!(copied.is_ok(), "{copied:?}");
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 20 * MIB).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deleted_for_good_meanwhile_does_not_come_back() {
    for size in [1000, 2 * MIB] {
        let world = World::with("tiering.lease", "500ms").set("tiering.heartbeat", "100ms").build().await;
        let user = world.user().await;
        let file = world.upload(user, "gone", pattern(1, size)).await;
        let key = world.key(&file).await;
        let requested = world.request_run(RunScope::default()).await;
        run::start_queued(&world.context).await.unwrap().unwrap();
        let gate = world.local.gate(Match::method(Method::GET), Hold::Answer);
        let batch = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
        let (engine, claimed) = (world.services.engine.clone(), batch.claims[0].clone());
        let lease = batch.lease_of(&claimed);
        let copying = tokio::spawn(async move { copy::copy(&engine, &claimed, &lease).await });
        gate.reached().await;

        // It is stopped after it has read the source; its lease expires, and the file is deleted.
        eventually("the lease expires", || async {
            (reap::leases(&world.context).await.unwrap() == 1).then_some(())
        })
        .await;
        trash::send(&world.context, user, file.row.id, None, &Origin::default()).await.unwrap();
        trash::purge(&world.context, user, file.row.id, &Origin::default()).await.unwrap();
        assert_eq!(reap::pass(&world.context).await.unwrap().objects, 1);
        gate.open();

        let ended = copying.await.unwrap();
        assert!(matches!(ended, Err(CopyError::LeaseLost)), "{ended:?}");
        assert_eq!(world.cloud.count(&Match::method(Method::PUT)), 0, "{size} bytes");
        assert!(world.direct.cloud().unwrap().head(&key).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_stopped_in_a_part_and_resumed_leaves_the_copy_of_the_next_one_alone() {
    let world = world().set("tiering.lease", "5s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "large", pattern(1, 40 * MIB)).await;
    let requested = world.request_run(RunScope::default()).await;
    let gate = world.cloud.gate(part(2), Hold::RequestBody(MIB));
    let first = world.start_worker_process().await;
    gate.reached().await;

    first.pause();
    let second = world.start_worker();
    gate.reached_by(2).await;
    gate.open();
    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1), "{run:?}");
    let puts = world.cloud.count(&Match::method(Method::PUT));
    first.resume();
    first.terminate();
    assert!(first.ended().await.success());

    assert_eq!(world.cloud.count(&Match::method(Method::PUT)), puts, "no further part is sent");
    assert_eq!(world.cloud.count(&deletions()), 0, "nothing is aborted or deleted");
    assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 40 * MIB).sha256()));
    second.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn losing_the_lease_of_one_copy_does_not_end_the_others_of_its_batch() {
    let world = World::new().await;
    let user = world.user().await;
    for seed in 0..3 {
        world.upload(user, &format!("{seed}"), pattern(seed, 1000)).await;
    }
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let batch = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
    assert_eq!(batch.claims.len(), 3);
    let lost = format!(
        "UPDATE replicas SET lease_until = now() - interval '1s' WHERE lease_token = '{}'",
        batch.claims[0].token
    );
    let changed = nightferry_tests::harness::database::execute(&world.context.db, &lost).await.unwrap();
    assert_eq!(changed, 1, "the lease is that of one copy");

    assert_eq!(reap::leases(&world.context).await.unwrap(), 1);

    let again = claim::next_batch(&world.context, requested.id, WorkerId::new(), 10).await.unwrap();
    assert_eq!(again.claims.len(), 1);
    assert_eq!(again.claims[0].object_id, batch.claims[0].object_id);
    for claimed in &batch.claims[1..] {
        let copied = copy::copy(&world.services.engine, claimed, &batch.lease_of(claimed)).await;
        assert!(copied.is_ok(), "{copied:?}");
    }
}
