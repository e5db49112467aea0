//! Errors have a scope: what one object meets stops no other, and what the whole store meets burns no attempts.

use std::time::Duration;

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_core::error::Error;
use nightferry_core::file::details::FileView;
use nightferry_core::tiering::reconcile::{self, Event, Kind};
use nightferry_core::tiering::{placement, run, scrub};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1024 * 1024;

/// Files with these names; each name is part of the key.
async fn upload(world: &World, names: &[&str]) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for (seed, name) in (0..).zip(names) {
        files.push(world.upload(user, name, pattern(seed, 1000 + seed)).await);
    }
    files
}

async fn upload_and_sync(world: &World, names: &[&str]) -> Vec<FileView> {
    let files = upload(world, names).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, names.len() as i64);
    worker.stop().await;
    files
}

async fn most_attempts(world: &World) -> i32 {
    let most = texts(&world.context.db, "SELECT coalesce(max(attempts), 0) FROM replicas").await;
    most[0].parse().unwrap()
}

fn denied(name: &str) -> Fault {
    Fault::status(403, "AccessDenied").key_contains(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_forbidden_key_fails_one_file_with_its_reason() {
    let world = World::with("tiering.concurrency", 2).build().await;
    let names: Vec<String> = (0..40).map(|number| format!("fine-{number}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.insert(0, "forbidden");
    let files = upload(&world, &names).await;
    world.cloud.add(denied("forbidden").on(Method::PUT));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.error.as_deref()), (RunStatus::Partial, None), "{run:?}");
    assert_eq!((run.files_total, run.files_done, run.files_failed), (41, 40, 1));
    let failures = world.failures(run.id).await;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].object_id, files[0].object_id);
    assert!(failures[0].error.contains("AccessDenied"), "{failures:?}");
    let blamed =
        texts(&world.context.db, "SELECT object_id FROM replicas WHERE last_error IS NOT NULL").await;
    assert_eq!(blamed, [files[0].object_id.to_string()], "no other file has this error");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_denies_a_neutral_key_too_stops_the_run() {
    let world = World::new().await;
    let files = upload(&world, &["a", "b", "c", "d"]).await;
    let refusal = world.cloud.add(Fault::status(403, "AccessDenied").on(Method::PUT));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Failed, 0, 0), "{run:?}");
    assert!(run.error.unwrap().contains("AccessDenied"));
    for file in &files {
        let replica = world.replica("s3", file).await.unwrap();
        assert_eq!((replica.state, replica.attempts), (ReplicaState::Queued, 0));
    }
    refusal.remove();
    assert_eq!(world.sync().await.files_done, 4);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_key_of_the_source_fails_one_file() {
    let world = World::new().await;
    let files = upload(&world, &["forbidden", "a", "b", "c"]).await;
    let refusal = world.local.add(denied("forbidden").on(Method::GET));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Partial, 3, 1), "{run:?}");
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Failed);
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    refusal.remove();
    assert_eq!(world.retry().await.files_done, 1);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_denies_missing_keys_is_probed_with_its_marker() {
    let world = World::new().await;
    let files = upload(&world, &["forbidden", "a", "b", "c"]).await;
    world.local.add(denied("forbidden").on(Method::GET));
    // As S3 responds to an access key without the permission to list the bucket.
    world.local.add(denied("user-00000000-").on(Method::HEAD));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Partial, 3, 1), "{run:?}");
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Failed);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_is_lost_although_the_destination_denies_missing_keys() {
    let world = World::new().await;
    let files = upload(&world, &["gone", "a"]).await;
    world.direct.get("minio").unwrap().delete(&world.key(&files[0]).await).await.unwrap();
    world.cloud.add(denied("gone").on(Method::HEAD));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.files_done, run.files_failed), (1, 1), "{run:?}");
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Lost);
    worker.stop().await;
}

/// The store responds to every PUT in this way until the end of the condition.
async fn waits_without_losing_attempts(status: u16, code: &str) {
    let world = World::with("tiering.max_attempts", 2)
        .set("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .build()
        .await;
    let files = upload(&world, &["a", "b", "c"]).await;
    let user = world.user().await;
    let large = world.upload(user, "large", pattern(9, 20 * MIB)).await;
    let condition = world.cloud.add(Fault::status(status, code).on(Method::PUT));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;

    // More requests than the first pause lets through.
    let paused = eventually("the store is paused and asked again", || async {
        let paused = world.context.stores.health().paused().remove("s3");
        paused.filter(|_| condition.struck() >= 6)
    })
    .await;
    assert!(paused.reason.contains(code), "{paused:?}");
    let waiting = run::find(&world.context, requested.id).await.unwrap().run;
    assert_eq!((waiting.status, waiting.files_failed), (RunStatus::Running, 0), "{code}: it waits");
    assert_eq!(most_attempts(&world).await, 0, "{code}");
    let reason = texts(
        &world.context.db,
        "SELECT DISTINCT last_error FROM replicas WHERE state IN ('queued', 'copying') AND last_error IS NOT NULL",
    )
    .await;
    assert!(reason.iter().all(|reason| reason.contains(code)), "{reason:?}");
    condition.remove();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 4, 0), "{run:?}");
    for file in files.iter().chain([&large]) {
        assert_eq!(world.replica("s3", file).await.unwrap().state, ReplicaState::Present);
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skewed_clock_pauses_the_store_and_burns_no_attempts() {
    waits_without_losing_attempts(403, "RequestTimeTooSkewed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_pauses_the_store_and_burns_no_attempts() {
    waits_without_losing_attempts(503, "SlowDown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_pauses_the_store_and_burns_no_attempts() {
    waits_without_losing_attempts(507, "XMinioStorageFull").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_a_new_bucket_pauses_the_store_and_burns_no_attempts() {
    waits_without_losing_attempts(307, "TemporaryRedirect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_redirect_pauses_the_store_and_burns_no_attempts() {
    waits_without_losing_attempts(301, "PermanentRedirect").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_does_not_wait_forever_for_a_redirect_and_the_next_one_continues() {
    let world = World::new().await;
    let files = upload(&world, &["a", "b"]).await;
    let condition = world.cloud.add(Fault::status(307, "TemporaryRedirect").on(Method::PUT));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    eventually("the store is paused", || async {
        world.context.stores.health().paused().contains_key("s3").then_some(())
    })
    .await;

    world.context.clock.advance(chrono::TimeDelta::minutes(3));
    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Failed, 0, 0), "{run:?}");
    assert!(run.error.unwrap().contains("TemporaryRedirect"));
    for file in &files {
        let replica = world.replica("s3", file).await.unwrap();
        assert_eq!((replica.state, replica.attempts, replica.run_id), (ReplicaState::Queued, 0, None));
    }
    condition.remove();
    world.context.stores.health().end_pauses();
    assert_eq!(world.sync().await.files_done, 2);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_taken_up_again_by_later_runs() {
    let world = World::with("tiering.max_attempts", 1).build().await;
    let file = upload(&world, &["broken"]).await.remove(0);
    let user = file.row.owner_id;
    let fault = world.cloud.add(Fault::status(500, "InternalError").on(Method::PUT).key_contains("broken"));
    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!(run.files_failed, 1);
    let failures = world.failures(run.id).await;
    let in_a_day = chrono::Utc::now() + Duration::from_secs(24 * 3600);
    assert!(
        (failures[0].retry_at.unwrap() - in_a_day).abs() < chrono::TimeDelta::minutes(10),
        "{failures:?}"
    );
    let why = placement::explain(&world.context, file.row.id, Some(user)).await.unwrap().next;
    assert!(why.action == "retry" && why.at.is_some(), "{why:?}");
    assert_eq!(world.sync().await.files_total, 0, "not before a day has passed");

    let ago = async |queued: &str, failed: &str| {
        let sql = format!(
            "UPDATE replicas SET queued_at = now() - interval '{queued}', not_before = now() - interval '{failed}' \
             WHERE state = 'failed'"
        );
        execute(&world.context.db, &sql).await.unwrap();
    };
    ago("25 hours", "24 hours").await;
    let next = world.sync().await;
    assert_eq!((next.files_total, next.files_failed), (1, 1), "taken up after a day, and failed again");
    ago("20 days", "2 days").await;
    assert_eq!(world.sync().await.files_total, 0, "a lasting failure is retried weekly");
    ago("20 days", "7 days").await;
    fault.remove();

    let last = world.sync().await;

    assert_eq!((last.status, last.files_done), (RunStatus::Succeeded, 1), "{last:?}");
    assert!(world.failures(run.id).await[0].retry_at.is_none(), "nothing is left to retry");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_continues_after_the_error_of_one_object_and_reports_it() {
    let world = World::new().await;
    let files = upload_and_sync(&world, &["forbidden", "gone", "fine"]).await;
    for file in &files[..2] {
        world.direct.get("s3").unwrap().delete(&world.key(file).await).await.unwrap();
    }
    // Its absence in the listing must be confirmed by a HEAD, which is denied.
    world.cloud.add(denied("forbidden").on(Method::HEAD));
    let options = reconcile::Options { apply: false, safety_age: Duration::from_secs(24 * 3600) };
    let store = world.context.stores.get("s3").unwrap();
    let mut found = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Found(finding) = event {
            found.push(finding.clone());
        }
    };

    let summary = reconcile::pass(&world.context, store, options, tell, &CancellationToken::new())
        .await
        .unwrap()
        .unwrap();

    assert!(summary.complete);
    assert_eq!((summary.unchecked, summary.of(Kind::Missing).found), (1, 1), "{summary:?}");
    assert!(summary.last_error.unwrap().contains("403"));
    assert_eq!(found[0].object_id, Some(files[1].object_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_ends_when_the_whole_store_refuses() {
    let world = World::new().await;
    let files = upload_and_sync(&world, &["a", "b"]).await;
    world.direct.get("s3").unwrap().delete(&world.key(&files[0]).await).await.unwrap();
    world.cloud.add(Fault::status(403, "ExpiredToken").matching(Match::any()));
    let options = reconcile::Options { apply: false, safety_age: Duration::from_secs(24 * 3600) };
    let store = world.context.stores.get("s3").unwrap();

    let refused = reconcile::pass(&world.context, store, options, |_| {}, &CancellationToken::new()).await;

    assert!(matches!(refused, Err(Error::Store(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scrub_continues_in_a_store_after_the_error_of_one_object() {
    let world = World::new().await;
    upload_and_sync(&world, &["forbidden", "a", "b", "c"]).await;
    for fault in [denied("forbidden"), Fault::status(500, "InternalError").key_contains("forbidden")] {
        let fault = world.cloud.add(fault.on(Method::GET));
        let options = scrub::Options {
            stores: world.context.stores.all().cloned().collect(),
            rate: None,
            bytes: None,
            time: None,
            min_age: Duration::ZERO,
        };

        let summary =
            scrub::pass(&world.context, &options, |_| {}, &CancellationToken::new()).await.unwrap().unwrap();

        assert_eq!((summary.right, summary.unread, summary.found()), (7, 1, 0), "{summary:?}");
        assert!(summary.unreachable.is_empty(), "{summary:?}");
        fault.remove();
    }
}
