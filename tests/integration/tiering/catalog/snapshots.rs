//! Round trip: the database is lost and restored from a snapshot, with later uploads from the stores.

use nightferry_core::catalog::{Source, after_runs, latest_report};
use nightferry_core::db::runs::RunScope;
use nightferry_core::file::list::FolderRef;
use nightferry_core::file::upload::{self, UploadRequest};
use nightferry_core::ids::{FolderId, UserId};
use nightferry_core::store::SNAPSHOT_PREFIX;
use nightferry_tests::harness::api::answered;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::Fault;
use nightferry_tests::harness::world::request;
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{cross, dump, export, rebuild_from};

const MIB: u64 = 1024 * 1024;

/// Non-ASCII names, and names with special characters for some software.
const NAMES: [&str; 7] = [
    "plain.txt",
    "Übersicht – 写真 (1).tar.gz",
    "100% 'quoted' \"twice\"; <b>&amp;.txt",
    "a%2Fb%00c",
    "  two  spaces .x",
    "=?utf-8?B?eA==?=",
    "🚢🌙",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_restored_from_a_snapshot_unchanged() {
    let mut world = World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("catalog.after_runs", true)
        .build()
        .await;
    let api = world.start_api();
    let ann = api.person().await;
    let mut kept = Vec::new();
    for (seed, name) in NAMES.into_iter().enumerate() {
        let seed = seed as u64;
        kept.push((ann.upload(name, pattern(seed, 1000 + seed)).await, pattern(seed, 1000 + seed)));
    }
    kept.push((ann.upload(&"写".repeat(85), pattern(20, 0)).await, pattern(20, 0)));
    kept.push((ann.upload("large.bin", pattern(21, 20 * MIB)).await, pattern(21, 20 * MIB)));
    for seed in [30, 31, 32] {
        ann.upload("versions.txt", pattern(seed, seed)).await;
    }
    let trashed = ann.upload("trashed.txt", pattern(40, 40)).await;
    let path = |file: &serde_json::Value| format!("/api/files/{}", file["id"].as_str().unwrap());
    assert_eq!(answered(ann.request(Method::DELETE, &path(&trashed))).await.0, 204);
    let pin = ann.request(Method::PATCH, &path(&kept[0].0)).json(&json!({ "pinned": true }));
    assert_eq!(answered(pin).await.0, 200);
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_failed, 0);
    let snapshot = eventually("a worker writes a snapshot after the run", || async {
        latest_report(&world.context).await.unwrap().and_then(|(report, _)| report.snapshot)
    })
    .await;
    worker.stop().await;
    assert!(snapshot.key.starts_with(SNAPSHOT_PREFIX));
    let email = ann.email.clone();
    drop(api);

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Newest).await.unwrap();

    assert_eq!(rebuilt.snapshot.as_deref(), Some(snapshot.key.as_str()));
    assert_eq!(
        (rebuilt.examined, rebuilt.unusable, rebuilt.aligned.missing, rebuilt.aligned.lost),
        (0, 0, 0, 0)
    );
    assert_eq!(dump(&world.context.db).await, dump(&before.db).await);
    let api = world.start_api();
    let ann = api.login(&email).await;
    for (file, bytes) in kept {
        assert_eq!(ann.download(&file["id"]).await, bytes.bytes(), "{file}");
    }
    assert_invariants(&world).await;
    assert_eq!(
        texts(&world.context.db, "SELECT action FROM audit_events WHERE action LIKE 'catalog%'").await.len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn later_uploads_are_restored_from_the_objects() {
    let mut world = World::new().await;
    let user = world.user().await;
    let known = world.upload(user, "known.txt", pattern(1, 100)).await;
    let evicted = world.upload(user, "freed.txt", pattern(2, 200)).await;
    let waiting = world.upload(user, "waiting.txt", pattern(3, 300)).await;
    let worker = world.start_worker();
    let scope = RunScope { file_ids: Some(vec![known.row.id, evicted.row.id]), ..RunScope::default() };
    let run = world.request_run(scope).await;
    world.ended(run.id).await;
    worker.stop().await;
    export(&world.context).await.unwrap();

    // After the snapshot: a new version of a known file, a new file in the cloud, one that waits, one that was synced,
    // one that was evicted.
    world.upload(user, "known.txt", pattern(4, 400)).await;
    let new = world.upload(user, "new.txt", pattern(5, 500)).await;
    cross(&world).await;
    let local = world.upload(user, "only local.bin", pattern(6, 12 * MIB)).await;
    world.direct.local().unwrap().delete(&world.key(&evicted).await).await.unwrap();

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Newest).await.unwrap();

    assert_eq!(
        (rebuilt.imported.objects, rebuilt.imported.files, rebuilt.imported.versions),
        (3, 2, 3),
        "{rebuilt:?}"
    );
    assert_eq!(
        (rebuilt.imported.users, rebuilt.aligned.missing, rebuilt.aligned.lost),
        (0, 1, 0),
        "{rebuilt:?}"
    );
    assert_invariants(&world).await;
    let db = &world.context.db;
    let sql = "SELECT concat_ws(' ', f.filename, f.current_version, f.file_size, f.storage_location, \
                      encode(o.sha256, 'hex'), f.content_type, f.synced_at IS NOT NULL) \
               FROM files f JOIN file_versions v ON v.file_id = f.id AND v.number = f.current_version \
               JOIN objects o ON o.id = v.object_id ORDER BY 1";
    assert_eq!(texts(db, sql).await, texts(&before.db, sql).await);
    let versions = "SELECT concat_ws(' ', file_id, number, object_id, created_by) FROM file_versions v \
                    JOIN files f ON f.id = v.file_id WHERE f.filename <> 'only local.bin' ORDER BY 1";
    assert_eq!(texts(db, versions).await, texts(&before.db, versions).await);
    let booked = "SELECT used_bytes FROM users";
    assert_eq!(texts(db, booked).await, texts(&before.db, booked).await);
    for (file, bytes) in [(&new, pattern(5, 500)), (&waiting, pattern(3, 300))] {
        assert_eq!(world.stored("s3", file).await, Some(bytes.sha256()));
    }
    assert!(texts(db, "SELECT id FROM files").await.contains(&local.object_id.to_string()));
    // Work continues as before.
    cross(&world).await;
    assert_invariants(&world).await;
}

/// A folder inside another, inserted into the database: the service cannot create one yet.
pub(super) async fn folder(world: &World, owner: UserId, parent: &str, name: &str) -> FolderId {
    let id = FolderId::new();
    let sql = format!(
        "INSERT INTO folders (id, owner_id, parent_id, name) SELECT '{id}', '{owner}', id, '{name}' FROM folders \
         WHERE owner_id = '{owner}' AND name = '{parent}'"
    );
    assert_eq!(execute(&world.context.db, &sql).await.unwrap(), 1);
    id
}

/// Uploads into a folder.
pub(super) async fn upload_to(
    world: &World,
    owner: UserId,
    folder: FolderId,
    name: &str,
    seed: u64,
) -> nightferry_core::file::details::FileView {
    let request = UploadRequest { folder: FolderRef::Id(folder), ..request(owner, name) };
    upload::receive(&world.services.files, request, &mut pattern(seed, 100)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_are_restored_in_any_order_of_their_ids() {
    let mut world = World::new().await;
    let user = world.user().await;
    let old = folder(&world, user, "", "old").await;
    let new = folder(&world, user, "", "new").await;
    execute(&world.context.db, &format!("UPDATE folders SET parent_id = '{new}' WHERE id = '{old}'"))
        .await
        .unwrap();
    upload_to(&world, user, old, "file", 1).await;
    export(&world.context).await.unwrap();

    let before = world.lose_database(&[]).await;
    rebuild_from(&world.context, Source::Newest).await.unwrap();

    assert_eq!(dump(&world.context.db).await, dump(&before.db).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_snapshot_fails_no_run_and_is_reported_and_retried() {
    let world = World::with("catalog.after_runs", true).build().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 100)).await;
    let fault =
        world.cloud.add(Fault::status(403, "AccessDenied").on(Method::PUT).key_contains("_nightferry"));
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 1);
    let report = eventually("the failure is recorded", || async {
        latest_report(&world.context).await.unwrap().map(|(report, _)| report)
    })
    .await;
    assert!(report.failed.as_ref().unwrap().contains("AccessDenied"), "{report:?}");
    assert_eq!(report.snapshot, None);
    let process = world.start_process(&["--json", "sync", "status"]).await;
    assert!(process.ended().await.success());
    assert!(process.output().contains("the last catalogue snapshot failed"), "{}", process.output());
    let status: serde_json::Value = serde_json::from_str(&process.stdout()).unwrap();
    assert!(status["catalog"]["failed"].as_str().unwrap().contains("AccessDenied"));

    worker.stop().await;
    fault.remove();
    let again = async || after_runs(&world.context, &CancellationToken::new()).await.unwrap();
    assert_eq!(again().await, None, "not immediately");
    world.context.clock.advance(chrono::TimeDelta::minutes(6));
    assert!(again().await.is_some());
    assert_eq!(again().await, None, "once is enough");
    let (report, _) = latest_report(&world.context).await.unwrap().unwrap();
    assert_eq!((report.failed, report.failing_since), (None, None));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_changes_writes_no_snapshot_and_old_snapshots_are_deleted() {
    let world = World::with("catalog.after_runs", true)
        .set("catalog.keep", 2)
        .set("catalog.keep_days", 0)
        .build()
        .await;
    let user = world.user().await;
    let cloud = world.direct.cloud().unwrap();
    let count = async || cloud.list(SNAPSHOT_PREFIX, None, 100).await.unwrap().objects.len();
    let worker = world.start_worker();
    world.upload(user, "a", pattern(1, 100)).await;
    world.sync().await;
    eventually("the first snapshot", || async { (count().await == 1).then_some(()) }).await;
    world.sync().await;
    worker.stop().await;
    assert_eq!(count().await, 1, "nothing changed");

    for _ in 0..3 {
        export(&world.context).await.unwrap();
    }
    assert_eq!(count().await, 2, "the configured number is kept");
}
