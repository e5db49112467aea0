//! Reconcile: differences are found, operations in progress are not reported, and nothing is changed without apply.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::leases;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::{LeaseToken, ObjectId, UserId};
use nightferry_core::store::{Body, ObjectKey, PutOptions};
use nightferry_core::tiering::reconcile::{self, Event, Finding, Kind, Options, Outcome, Summary};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, assert_invariants, pattern, states};
use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const A_DAY: Duration = Duration::from_secs(24 * 3600);

async fn pass(world: &World, store: &str, options: Options) -> (Summary, Vec<Finding>) {
    let mut findings = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Found(finding) = event {
            findings.push(finding.clone());
        }
    };
    let store = world.context.stores.get(store).unwrap();
    let summary = reconcile::pass(&world.context, store, options, tell, &CancellationToken::new())
        .await
        .unwrap()
        .unwrap();
    assert!(summary.complete);
    assert_eq!(summary.found(), findings.len() as u64);
    (summary, findings)
}

async fn report(world: &World, store: &str) -> (Summary, Vec<Finding>) {
    pass(world, store, Options { apply: false, safety_age: A_DAY }).await
}

async fn apply(world: &World, store: &str) -> (Summary, Vec<Finding>) {
    pass(world, store, Options { apply: true, safety_age: A_DAY }).await
}

fn a_key(user: UserId) -> ObjectKey {
    ObjectKey::new(user.0, Uuid::now_v7(), "stray.bin")
}

async fn put(world: &World, store: &str, key: &ObjectKey, size: usize) {
    let body = Body::Bytes(Bytes::from(vec![7; size]));
    world.direct.get(store).unwrap().put(key, body, &PutOptions::default()).await.unwrap();
}

async fn delete(world: &World, store: &str, file: &FileView) {
    world.direct.get(store).unwrap().delete(&world.key(file).await).await.unwrap();
}

async fn holds(world: &World, store: &str, key: &ObjectKey) -> bool {
    world.direct.get(store).unwrap().head(key).await.unwrap().is_some()
}

/// Synced files.
async fn synced(world: &World, count: u64) -> (UserId, Vec<FileView>) {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, count as i64);
    worker.stop().await;
    (user, files)
}

fn later(world: &World, hours: i64) {
    world.context.clock.advance(TimeDelta::hours(hours));
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reported_when_old_enough_and_deleted_only_with_apply() {
    let world = World::new().await;
    let (user, _) = synced(&world, 2).await;
    let stray = a_key(user);
    put(&world, "s3", &stray, 100).await;
    let (_, found) = apply(&world, "s3").await;
    assert_eq!(
        (found.len(), found[0].kind),
        (1, Kind::Unknown),
        "it may be newer than the database: {found:?}"
    );
    assert!(holds(&world, "s3", &stray).await);

    later(&world, 25);
    let (summary, found) = report(&world, "s3").await;
    assert_eq!((summary.objects, summary.of(Kind::Orphan).found), (3, 1));
    let finding = &found[0];
    assert_eq!((finding.kind, finding.key.as_str(), finding.bytes), (Kind::Orphan, stray.as_str(), 100));
    assert_eq!(finding.outcome, Outcome::Reported);
    assert!(holds(&world, "s3", &stray).await);
    assert_eq!(report(&world, "minio").await.1, [], "each store by itself");

    assert_eq!(apply(&world, "s3").await.0.of(Kind::Orphan).applied, 1);
    assert!(!holds(&world, "s3", &stray).await);
    assert_eq!(apply(&world, "s3").await.1, [], "once is enough");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_objects_are_counted_and_never_touched() {
    let world = World::new().await;
    synced(&world, 1).await;
    put_foreign(&world, "catalog/snapshot.json").await;
    later(&world, 48);

    let (summary, found) = apply(&world, "s3").await;

    assert_eq!((summary.objects, summary.foreign), (2, 1));
    assert_eq!(found, []);
    let left = world.direct.cloud().unwrap().list("catalog/", None, 10).await.unwrap();
    assert_eq!(left.objects.len(), 1);
}

/// Writes an object under a foreign key, as other software would.
async fn put_foreign(world: &World, key: &str) {
    use secrecy::ExposeSecret;
    let settings = world.direct.cloud().unwrap().settings();
    let credentials = s3::creds::Credentials::new(
        Some(settings.access_key.expose_secret()),
        Some(settings.secret_key.expose_secret()),
        None,
        None,
        None,
    );
    let region = s3::Region::Custom { region: settings.region.clone(), endpoint: settings.endpoint.clone() };
    let bucket = s3::Bucket::new(&settings.bucket, region, credentials.unwrap()).unwrap().with_path_style();
    bucket.put_object(key, b"{}").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surplus_object_is_deleted_only_while_another_verified_copy_exists() {
    let world = World::new().await;
    let (_, files) = synced(&world, 2).await;
    let ids = format!("('{}', '{}')", files[0].object_id, files[1].object_id);
    execute(&world.context.db, &format!("DELETE FROM replicas WHERE store = 's3' AND object_id IN {ids}"))
        .await
        .unwrap();
    let only = files[1].object_id;
    execute(&world.context.db, &format!("UPDATE replicas SET state = 'lost' WHERE object_id = '{only}'"))
        .await
        .unwrap();
    later(&world, 25);

    let (summary, found) = apply(&world, "s3").await;

    assert_eq!((summary.of(Kind::Orphan).found, summary.of(Kind::Orphan).applied), (1, 1));
    let kept = found.iter().find(|finding| finding.object_id == Some(only)).unwrap();
    let adopted = (kept.kind, kept.store.as_str(), &kept.outcome);
    assert_eq!(adopted, (Kind::Adopted, "minio", &Outcome::Applied), "an intact copy is found first");
    assert_eq!(world.stored("s3", &files[0]).await, None);
    assert_eq!(world.stored("s3", &files[1]).await, Some(pattern(1, 10_000).sha256()));
    let rows = texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 's3'").await;
    assert_eq!(rows.len(), 0, "the mark is removed with the content");
    assert_eq!(world.replica("minio", &files[1]).await.unwrap().state, ReplicaState::Present);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_deletion_is_completed_by_the_next_eviction() {
    let world = World::with("tiering.lease", "1s").set("tiering.heartbeat", "200ms").build().await;
    let (_, files) = synced(&world, 1).await;
    execute(&world.context.db, "DELETE FROM replicas WHERE store = 's3'").await.unwrap();
    later(&world, 25);
    let denied = world.cloud.add(Fault::status(403, "AccessDenied").on(Method::DELETE));

    let (_, found) = apply(&world, "s3").await;

    assert!(matches!(&found[0].outcome, Outcome::Kept(_)), "{found:?}");
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Evicting);
    denied.remove();
    let worker = world.start_worker();
    nightferry_tests::harness::eventually("the mark is taken over", || async {
        world.replica("s3", &files[0]).await.is_none().then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(world.stored("s3", &files[0]).await, None);
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 10_000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_abandoned_before_its_mark_expires() {
    let world = World::with("tiering.lease", "1s").set("tiering.heartbeat", "200ms").build().await;
    let (_, files) = synced(&world, 1).await;
    execute(&world.context.db, "DELETE FROM replicas WHERE store = 's3'").await.unwrap();
    later(&world, 25);
    let gate = world.cloud.gate(Match::method(Method::DELETE), Hold::Request);

    let (_, found) = apply(&world, "s3").await;

    assert!(matches!(&found[0].outcome, Outcome::Kept(why) if why.contains("will be retried")), "{found:?}");
    world.cloud.until(|requests| requests.iter().all(|request| request.done)).await;
    gate.open();
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Evicting);
    assert_eq!(world.stored("s3", &files[0]).await, Some(pattern(0, 10_000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_objects_become_suspect_and_are_repaired_only_with_apply() {
    let world = World::new().await;
    let (_, files) = synced(&world, 3).await;
    delete(&world, "minio", &files[0]).await;
    delete(&world, "s3", &files[1]).await;

    for (store, file) in [("minio", &files[0]), ("s3", &files[1])] {
        let (_, found) = report(&world, store).await;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].object_id), (Kind::Missing, Some(file.object_id)));
        assert!(world.replica(store, file).await.unwrap().is_suspect());

        let (_, found) = apply(&world, store).await;
        assert_eq!(found[0].outcome, Outcome::Applied);
        // Another verified copy exists, so it waits for the next run.
        assert_eq!(world.replica(store, file).await.unwrap().state, ReplicaState::Queued);
        assert_eq!(apply(&world, store).await.1, [], "once is enough");
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_size_is_found() {
    let world = World::new().await;
    let (_, files) = synced(&world, 2).await;
    put(&world, "s3", &world.key(&files[0]).await, 9_999).await;

    let (_, found) = report(&world, "s3").await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].kind, found[0].object_id), (Kind::WrongSize, Some(files[0].object_id)));
    assert!(found[0].detail.contains("9999 bytes instead of 10000"), "{found:?}");

    apply(&world, "s3").await;
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Queued);
    assert_eq!(world.replica("s3", &files[1]).await.unwrap().state, ReplicaState::Present);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_unfinished_uploads_are_aborted_after_the_session_lifetime() {
    let world = World::new().await;
    let (user, files) = synced(&world, 1).await;
    let store = world.direct.cloud().unwrap();
    store.create_multipart(&a_key(user), &PutOptions::default()).await.unwrap();
    let known = store.create_multipart(&world.key(&files[0]).await, &PutOptions::default()).await.unwrap();
    execute(&world.context.db, &format!("UPDATE replicas SET upload_id = '{known}' WHERE store = 's3'"))
        .await
        .unwrap();
    assert_eq!(apply(&world, "s3").await.1, [], "they may be in progress");

    later(&world, 25);
    let (summary, found) = report(&world, "s3").await;
    assert_eq!((summary.uploads, summary.of(Kind::StaleUpload).found), (2, 1), "{found:?}");
    apply(&world, "s3").await;

    let left = store.list_multipart_uploads("").await.unwrap();
    assert_eq!(left.iter().map(|upload| upload.upload_id.as_str()).collect::<Vec<_>>(), [known.as_str()]);
    assert_eq!(apply(&world, "s3").await.1, []);
}

/// Objects with rows, inserted in one statement, and their content.
async fn many(world: &World, user: UserId, count: usize) -> Vec<(ObjectId, ObjectKey)> {
    use futures_util::{StreamExt, stream};
    let objects: Vec<(ObjectId, ObjectKey)> = (0..count)
        .map(|_| {
            let id = ObjectId::new();
            (id, ObjectKey::new(user.0, id.0, "n"))
        })
        .collect();
    let rows: Vec<String> = objects
        .iter()
        .map(|(id, key)| {
            format!(
                "('{id}', '{user}', '{key}', 'stored', 'text/plain', 3, decode(repeat('00', 32), 'hex'), \
                 decode(repeat('00', 8), 'hex'), 'minio', now())"
            )
        })
        .collect();
    let sql = format!(
        "WITH made AS (INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, \
         upload_store, stored_at) VALUES {} RETURNING id) \
         INSERT INTO replicas (object_id, store, state, verified_at) SELECT id, 'minio', 'present', now() FROM made",
        rows.join(", ")
    );
    execute(&world.context.db, &sql).await.unwrap();
    stream::iter(&objects).for_each_concurrent(32, async |(_, key)| put(world, "minio", key, 3).await).await;
    objects
}

#[tokio::test(flavor = "multi_thread")]
async fn more_objects_than_a_page_holds_are_compared_one_by_one() {
    let world = World::new().await;
    let user = world.user().await;
    let objects = many(&world, user, 2_100).await;
    let mut gone: Vec<ObjectId> = Vec::new();
    for index in [0, 999, 1_000, 1_001, 2_099] {
        let (id, key) = &objects[index];
        world.direct.local().unwrap().delete(key).await.unwrap();
        gone.push(*id);
    }
    let other = world.user().await;
    for owner in [user, other] {
        put(&world, "minio", &a_key(owner), 5).await;
    }
    later(&world, 25);

    let (summary, found) = report(&world, "minio").await;

    assert_eq!(summary.objects, 2_097);
    let missing: Vec<ObjectId> = found
        .iter()
        .filter(|finding| finding.kind == Kind::Missing)
        .map(|finding| finding.object_id.unwrap())
        .collect();
    assert_eq!(missing, gone);
    assert_eq!(summary.of(Kind::Orphan).found, 2);
    assert_eq!(found.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_while_files_are_uploaded_synced_and_evicted() {
    let world = World::with("tiering.free_local_after", "0s").set("tiering.batch_size", 3).build().await;
    let user = world.user().await;
    let worker = world.start_worker();
    let over = CancellationToken::new();
    let moving = async {
        for round in 0..4_u64 {
            let uploads = (0..15).map(|n| {
                let seed = round * 100 + n;
                let world = &world;
                async move { world.upload(user, &format!("{seed}"), pattern(seed, 20_000)).await }
            });
            futures_util::future::join_all(uploads).await;
            world.sync().await;
        }
        over.cancel();
    };
    // Without a safety age, so that only the second check protects uploads in progress.
    let looking = async {
        let mut passes = 0;
        while !over.is_cancelled() {
            for store in ["minio", "s3"] {
                let options = Options { apply: true, safety_age: Duration::ZERO };
                assert_eq!(pass(&world, store, options).await.1, []);
                passes += 1;
            }
        }
        passes
    };
    let ((), passes) = tokio::join!(moving, looking);
    assert!(passes >= 4, "{passes}");
    nightferry_tests::harness::eventually("all are evicted", || async {
        (states(&world).await.into_iter().collect::<Vec<_>>() == [("s3 present".to_owned(), 60)])
            .then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_reconciles_a_store_and_a_dead_one_is_replaced() {
    let world = World::new().await;
    synced(&world, 1).await;
    let take = async |lease: u64| {
        let mut conn = world.context.db.conn().await.unwrap();
        leases::take(&mut conn, "reconcile s3", LeaseToken::new(), Duration::from_secs(lease)).await.unwrap()
    };
    assert!(take(600).await);
    let options = Options { apply: false, safety_age: A_DAY };
    let (stop, cloud) = (CancellationToken::new(), world.context.stores.cloud().unwrap());
    assert_eq!(reconcile::pass(&world.context, cloud, options, |_| (), &stop).await.unwrap(), None);
    report(&world, "minio").await;

    execute(&world.context.db, "UPDATE leases SET until = now() - interval '1s'").await.unwrap();
    report(&world, "s3").await;
    assert!(take(600).await, "it was released");
    let told = texts(&world.context.db, "SELECT name FROM passes WHERE finished_at IS NOT NULL").await;
    assert_eq!(told.len(), 2, "the findings are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_pass_is_reported() {
    let world = World::new().await;
    synced(&world, 1).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let options = Options { apply: true, safety_age: A_DAY };
    let cloud = world.context.stores.cloud().unwrap();
    let summary = reconcile::pass(&world.context, cloud, options, |_| (), &stop).await.unwrap().unwrap();
    assert!(!summary.complete);
    let told = texts(&world.context.db, "SELECT name FROM passes WHERE finished_at IS NOT NULL").await;
    assert_eq!(told.len(), 0, "only a complete pass describes a store");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_reports_findings_in_json_and_by_its_exit_code() {
    let world = World::new().await;
    let (_, files) = synced(&world, 2).await;
    let run = async |arguments: &[&str]| {
        let process = world.start_process(arguments).await;
        let code = process.ended().await.code().unwrap();
        (code, serde_json::from_str::<Value>(&process.stdout()).unwrap())
    };
    let (code, document) = run(&["--json", "reconcile"]).await;
    assert_eq!((code, &document["ok"]), (0, &Value::Bool(true)), "{document}");
    assert_eq!(document["stores"].as_array().unwrap().len(), 2);

    delete(&world, "s3", &files[0]).await;
    let (code, document) = run(&["--json", "reconcile", "--store", "s3"]).await;
    assert_eq!((code, &document["apply"]), (7, &Value::Bool(false)), "{document}");
    let finding = &document["findings"][0];
    assert_eq!(finding["kind"], "missing");
    assert_eq!(finding["object_id"], files[0].object_id.to_string());
    assert!(world.replica("s3", &files[0]).await.unwrap().is_suspect());

    let (code, document) = run(&["--json", "reconcile", "--apply"]).await;
    assert_eq!((code, &document["findings"][0]["applied"]), (7, &Value::Bool(true)), "{document}");
    assert_eq!(run(&["--json", "reconcile"]).await.0, 0, "a requeued copy is not a difference");
    assert_eq!(run(&["--json", "reconcile", "--store", "nowhere"]).await.0, 3);
}
