//! A restored backup of Postgres: the stores hold copies, and whole files, that the database does not know. Nothing of
//! that is deleted or given up; intact copies are used again.

use std::time::Duration;

use chrono::TimeDelta;
use nightferry_core::auth::Accounts;
use nightferry_core::catalog::{self, AdoptOptions, Adoption, Event};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::error::ErrorCode;
use nightferry_core::file::details::FileView;
use nightferry_core::file::trash;
use nightferry_core::ids::UserId;
use nightferry_core::object::{canary, empty_catalogue};
use nightferry_core::store::{Body, PutOptions};
use nightferry_core::tiering::reconcile::{self, Event as Told, Finding, Kind, Options, Summary};
use nightferry_core::tiering::relocate::drain::{self, Draining};
use nightferry_core::tiering::{evict, reap, scrub};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::memory_s3::Writes;
use nightferry_tests::harness::world::WorkerHandle;
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 10_000;

/// What a backup contains of the replicas of a world: those that were made after it are unknown.
async fn back_up(world: &World) {
    for sql in [
        "CREATE SCHEMA backup",
        "CREATE TABLE backup.replicas AS SELECT * FROM public.replicas",
        "CREATE TABLE backup.files AS SELECT * FROM public.files",
    ] {
        execute(&world.context.db, sql).await.unwrap();
    }
}

/// Restores the backup.
async fn restore(world: &World) {
    for sql in [
        "DELETE FROM replicas",
        "INSERT INTO replicas SELECT * FROM backup.replicas",
        "UPDATE files f SET storage_location = b.storage_location, synced_at = b.synced_at FROM backup.files b \
         WHERE b.id = f.id",
    ] {
        execute(&world.context.db, sql).await.unwrap();
    }
}

/// Files that were synced and evicted after the backup, which was restored. `queued`: the copies were requested before
/// the backup, but not made.
async fn restored(queued: bool) -> (World, UserId, Vec<FileView>) {
    restored_with(World::with("tiering.free_local_after", "0s").build().await, queued).await
}

async fn restored_with(world: World, queued: bool) -> (World, UserId, Vec<FileView>) {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..3 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, SIZE)).await);
    }
    if queued {
        execute(
            &world.context.db,
            "INSERT INTO replicas (object_id, store, state, rule, copy_reason) \
             SELECT id, 's3', 'queued', 'default', 'policy' FROM objects",
        )
        .await
        .unwrap();
    }
    back_up(&world).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    eventually("all local copies are evicted", || async {
        let left = texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio'").await;
        left.is_empty().then_some(())
    })
    .await;
    worker.stop().await;
    restore(&world).await;
    (world, user, files)
}

async fn pass(world: &World, store: &str, apply: bool) -> (Summary, Vec<Finding>) {
    let mut findings = Vec::new();
    let tell = |event: Told<'_>| {
        if let Told::Found(finding) = event {
            findings.push(finding.clone());
        }
    };
    let store = world.context.stores.get(store).unwrap();
    let options = Options { apply, safety_age: Duration::ZERO };
    let stop = CancellationToken::new();
    let summary = reconcile::pass(&world.context, store, options, tell, &stop).await.unwrap().unwrap();
    assert_eq!(summary.unchecked, 0, "{summary:?}");
    (summary, findings)
}

async fn download(world: &World, user: UserId, file: &FileView) -> Option<nightferry_core::checksum::Sha256> {
    use futures_util::StreamExt;
    use nightferry_core::file::download;
    let target = download::find(&world.context, user, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, None).await.ok()?;
    let mut hasher = nightferry_core::checksum::Sha256Hasher::new();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk.unwrap());
    }
    Some(hasher.finish())
}

async fn assert_in_cloud(world: &World, files: &[FileView]) {
    for (seed, file) in files.iter().enumerate() {
        let replica = world.replica("s3", file).await.unwrap();
        assert_eq!(replica.state, ReplicaState::Present, "{replica:?}");
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, SIZE).sha256()));
    }
}

async fn adopt(world: &World, apply: bool) -> (Adoption, Vec<String>) {
    let accounts = Accounts::new(world.context.clone()).unwrap();
    let origin = Origin::default();
    let mut names = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Adoptable(seen) = event {
            names.push(seen.name.clone());
        }
    };
    let options = AdoptOptions { apply, origin: &origin };
    let adoption = catalog::adopt(&accounts, options, tell, &CancellationToken::new()).await.unwrap();
    assert!(adoption.complete);
    names.sort();
    (adoption, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_finds_a_copy_that_the_database_does_not_know() {
    for queued in [false, true] {
        let (world, user, files) = restored(queued).await;
        for (seed, file) in files.iter().enumerate() {
            let found = download(&world, user, file).await;
            assert_eq!(found, Some(pattern(seed as u64, SIZE).sha256()), "queued: {queued}");
        }
        assert_in_cloud(&world, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_does_not_adopt_other_content() {
    let (world, user, files) = restored(false).await;
    let wrong = Body::Bytes(vec![0; usize::try_from(SIZE).unwrap()].into());
    let key = world.key(&files[0]).await;
    world.direct.get("s3").unwrap().put(&key, wrong, &PutOptions::default()).await.unwrap();

    assert_eq!(download(&world, user, &files[0]).await, None);
    assert!(world.replica("s3", &files[0]).await.is_none());
    assert_eq!(download(&world, user, &files[1]).await, Some(pattern(1, SIZE).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_a_store_that_returns_false_checksums_is_read_before_it_is_adopted() {
    let world = World::with("tiering.free_local_after", "0s").in_memory().build().await;
    let (world, user, files) = restored_with(world, false).await;
    let [_, server] = world.memory.as_ref().unwrap();
    // What HEAD returns of it is right, its content is not.
    server.set_writes(Writes::FlippedAndSworn);
    let options = PutOptions { sha256: Some(pattern(0, SIZE).sha256()), ..PutOptions::default() };
    let body = Body::Bytes(pattern(0, SIZE).bytes());
    let key = world.key(&files[0]).await;
    world.direct.get("s3").unwrap().put(&key, body, &options).await.unwrap();
    assert!(canary::check(world.context.stores.get("s3").unwrap()).await.heads_lie());

    assert_eq!(download(&world, user, &files[0]).await, None);
    assert!(world.replica("s3", &files[0]).await.is_none());
    assert_eq!(download(&world, user, &files[1]).await, Some(pattern(1, SIZE).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_after_a_restore_finds_its_copies_in_the_cloud_and_loses_nothing() {
    for queued in [false, true] {
        let (world, user, files) = restored(queued).await;
        let puts = world.cloud.count(&nightferry_tests::harness::fault_proxy::Match::method(Method::PUT));

        let worker = world.start_worker();
        let run = world.sync().await;
        assert_eq!((run.status, run.files_failed), (RunStatus::Succeeded, 0), "{run:?}");
        worker.stop().await;
        // The worker may have been stopped during an eviction, which the next one completes.
        evict::pass(&world.context, nightferry_core::ids::WorkerId::new(), &CancellationToken::new())
            .await
            .unwrap();

        assert_in_cloud(&world, &files).await;
        let again = world.cloud.count(&nightferry_tests::harness::fault_proxy::Match::method(Method::PUT));
        assert_eq!(again, puts, "nothing is copied again");
        for (seed, file) in files.iter().enumerate() {
            assert_eq!(download(&world, user, file).await, Some(pattern(seed as u64, SIZE).sha256()));
        }
        assert_invariants(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_adopts_the_only_copies_and_never_deletes_them() {
    for (store, apply) in [("s3", false), ("s3", true), ("minio", false), ("minio", true)] {
        let (world, user, files) = restored(false).await;
        world.context.clock.advance(TimeDelta::days(2));

        let (summary, found) = pass(&world, store, apply).await;

        if store == "s3" && !apply {
            // The rows of the local copies still look like verified copies, so these are surplus.
            assert_eq!(summary.of(Kind::Orphan).found, 3, "{found:?}");
        } else if store == "minio" {
            assert_eq!(
                (summary.of(Kind::Adopted).found, summary.of(Kind::Missing).found),
                (3, 3),
                "{found:?}"
            );
        }
        for (seed, file) in files.iter().enumerate() {
            assert_eq!(
                world.stored("s3", file).await,
                Some(pattern(seed as u64, SIZE).sha256()),
                "{found:?}"
            );
            assert_eq!(download(&world, user, file).await, Some(pattern(seed as u64, SIZE).sha256()));
        }
        assert_in_cloud(&world, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_failed_copies_are_adopted_by_reconcile_in_every_mode() {
    for (state, apply) in [("lost", false), ("failed", true), ("queued", false)] {
        let (world, _, files) = restored(false).await;
        let rows = format!(
            "INSERT INTO replicas (object_id, store, state, rule, copy_reason) \
             SELECT id, 's3', '{state}', 'default', 'policy' FROM objects"
        );
        execute(&world.context.db, &rows).await.unwrap();
        execute(&world.context.db, "UPDATE replicas SET state = 'lost' WHERE store = 'minio'").await.unwrap();

        let (summary, found) = pass(&world, "s3", apply).await;

        assert_eq!(summary.of(Kind::Adopted).applied, 3, "{state}: {found:?}");
        assert_in_cloud(&world, &files).await;
        assert_eq!(pass(&world, "s3", apply).await.0.found(), 0, "once is enough");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_newer_than_the_database_are_never_deleted_and_are_adopted_with_their_labels() {
    let (world, user, _) = restored(false).await;
    let later = world.upload(user, "later.txt", pattern(9, SIZE)).await;
    let key = world.key(&later).await;
    let gone = world.upload(user, "deleted.txt", pattern(8, SIZE)).await;
    let gone_key = world.key(&gone).await;
    // The database forgets the first: its backup is older. The second is deleted for good, and its bytes come back.
    trash::purge(&world.context, user, gone.row.id, &Origin::default()).await.unwrap();
    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 1);
    let body = Body::Bytes(pattern(8, SIZE).bytes());
    world.direct.get("minio").unwrap().put(&gone_key, body, &PutOptions::default()).await.unwrap();
    let id = later.row.id;
    for sql in [
        format!("DELETE FROM replicas WHERE object_id = '{}'", later.object_id),
        format!("DELETE FROM files WHERE id = '{id}'"),
        format!("DELETE FROM objects WHERE id = '{}'", later.object_id),
        format!("UPDATE users SET used_bytes = used_bytes - {SIZE}"),
    ] {
        execute(&world.context.db, &sql).await.unwrap();
    }
    world.context.clock.advance(TimeDelta::days(9));

    let (summary, found) = pass(&world, "minio", true).await;

    assert_eq!(summary.of(Kind::Unknown).found, 1, "{found:?}");
    assert_eq!(summary.of(Kind::Orphan).applied, 1, "what is left of a deleted file: {found:?}");
    assert!(world.direct.get("minio").unwrap().head(&key).await.unwrap().is_some());

    let (adoption, names) = adopt(&world, false).await;
    assert_eq!(
        (adoption.objects, names.as_slice()),
        (1, ["later.txt".to_owned()].as_slice()),
        "{adoption:?}"
    );
    let count = "SELECT count(*) FROM files WHERE filename = 'later.txt'";
    assert_eq!(texts(&world.context.db, count).await, ["0"], "a dry run changes nothing");

    let (adoption, _) = adopt(&world, true).await;
    assert_eq!(
        (adoption.imported.users, adoption.imported.files, adoption.copies),
        (0, 1, 1),
        "{adoption:?}"
    );
    let facts = format!(
        "SELECT concat_ws(' ', f.filename, f.owner_id = '{user}', v.object_id = '{}', f.file_size, f.storage_location) \
         FROM files f JOIN file_versions v ON v.file_id = f.id WHERE f.filename = 'later.txt'",
        later.object_id
    );
    assert_eq!(texts(&world.context.db, &facts).await, [format!("later.txt t t {SIZE} minio")]);
    assert_eq!(adopt(&world, true).await.0.objects, 0, "once is enough");
    assert_eq!(pass(&world, "minio", false).await.0.of(Kind::Unknown).found, 0);
    let booked = format!("SELECT used_bytes FROM users WHERE id = '{user}'");
    assert_eq!(texts(&world.context.db, &booked).await, [(4 * SIZE).to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_adopt_command_shows_first_and_changes_only_with_apply() {
    let mut world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a.txt", pattern(1, SIZE)).await;
    world.lose_database(&[]).await;
    let ann = world.user().await;
    world.upload(ann, "known", pattern(2, SIZE)).await;
    let run = async |arguments: &[&str]| {
        let process = world.start_process(arguments).await;
        let code = process.ended().await.code().unwrap();
        (code, serde_json::from_str::<serde_json::Value>(&process.stdout()).unwrap())
    };

    let (code, document) = run(&["--json", "catalog", "adopt"]).await;
    assert_eq!((code, document["objects"].as_u64()), (7, Some(1)), "{document}");
    assert_eq!(document["found"][0]["path"], "a.txt");
    assert_eq!(texts(&world.context.db, "SELECT count(*) FROM files").await, ["1"]);

    let (code, document) = run(&["--json", "catalog", "adopt", "--apply"]).await;
    assert_eq!((code, document["files_created"].as_u64()), (0, Some(1)), "{document}");
    assert_eq!(document["users_created"], 1, "{document}");
    let audit = "SELECT action FROM audit_events WHERE action = 'catalog.adopt'";
    assert_eq!(texts(&world.context.db, audit).await, ["catalog.adopt"]);
    assert_eq!(run(&["--json", "catalog", "adopt"]).await.0, 0);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_beside_full_stores_is_reported_and_nothing_is_deleted() {
    let mut world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, SIZE)).await;
    assert_eq!(empty_catalogue::check(&world.context).await.unwrap(), [""; 0]);
    world.lose_database(&[]).await;

    let minio = world.context.stores.get("minio").unwrap().clone();
    let options = Options { apply: true, safety_age: Duration::ZERO };
    let stop = CancellationToken::new();
    let refused = reconcile::pass(&world.context, &minio, options, |_| {}, &stop).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    assert!(refused.to_string().contains("catalog rebuild"), "{refused}");
    assert_eq!(world.context.stores.empty_catalogue().stores(), ["minio"]);
    let report = Options { apply: false, ..options };
    let told = reconcile::pass(&world.context, &minio, report, |_| {}, &stop).await.unwrap().unwrap();
    assert_eq!(told.of(Kind::Unknown).found, 1);

    let api = world.start_api();
    let (status, ready) =
        nightferry_tests::harness::api::answered(api.request(Method::GET, "/health/ready")).await;
    assert_eq!((status.as_u16(), ready["status"].as_str()), (200, Some("degraded")), "{ready}");
    assert_eq!(ready["checks"]["catalogue"], "empty", "{ready}");

    // A first upload does not end it; knowing the object does.
    let ann = world.user().await;
    world.upload(ann, "b", pattern(2, SIZE)).await;
    assert_eq!(empty_catalogue::check(&world.context).await.unwrap(), ["minio"]);
    adopt(&world, true).await;
    assert_eq!(empty_catalogue::check(&world.context).await.unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_not_verified_permits_no_eviction_until_scrub_has_read_it() {
    let world = World::with("tiering.free_local_after", "0s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, SIZE)).await;
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    worker.stop().await;
    let unproved = "UPDATE replicas SET verified_at = NULL WHERE store = 's3'";
    execute(&world.context.db, unproved).await.unwrap();
    let evicted = async || {
        evict::pass(&world.context, nightferry_core::ids::WorkerId::new(), &CancellationToken::new())
            .await
            .unwrap()
    };
    assert_eq!(evicted().await, 0);
    assert!(world.replica("minio", &file).await.is_some());

    let options = scrub::Options {
        stores: vec![world.context.stores.get("s3").unwrap().clone()],
        rate: None,
        bytes: None,
        time: None,
        min_age: Duration::from_secs(24 * 3600),
    };
    let summary =
        scrub::pass(&world.context, &options, |_| {}, &CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(summary.right, 1, "it is read whatever its age: {summary:?}");
    assert!(world.replica("s3", &file).await.unwrap().verified_at.is_some());
    assert_eq!(evicted().await, 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_never_verified_leaves_a_store_that_is_drained() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, SIZE)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    let unproved = "UPDATE replicas SET verified_at = NULL WHERE store = 'minio'";
    execute(&world.context.db, unproved).await.unwrap();

    drain::begin(&world.context, "minio", None, &Origin::default()).await.unwrap();

    eventually("the store is empty", || async {
        drain::look(&world.context, "minio").await.unwrap().filter(Draining::is_finished)
    })
    .await;
    worker.stop().await;
    assert_eq!(world.stored("minio", &file).await, None);
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, SIZE).sha256()));
    assert_invariants(&world).await;
}
