//! A store is the one that the database knows only while its bucket has the recorded marker. Nothing is deleted in any
//! other store, nor anywhere because of its copies.

use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::error::ErrorCode;
use nightferry_core::file::details::FileView;
use nightferry_core::file::trash;
use nightferry_core::ids::WorkerId;
use nightferry_core::object::adopt::{self, Effort};
use nightferry_core::object::identity;
use nightferry_core::store::{Body, ObjectKey, PutOptions};
use nightferry_core::stores::{Identity, Usability};
use nightferry_core::tiering::relocate::drain;
use nightferry_core::tiering::{evict, reap, reconcile, scrub};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::servers::servers;
use nightferry_tests::harness::world::WorkerHandle;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SIZE: u64 = 10_000;

async fn world() -> World {
    World::with("tiering.free_local_after", "0s").build().await
}

/// Files that are in both stores according to the database, before any eviction.
async fn synced(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, SIZE)).await);
    }
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.files_done, count as i64);
    worker.stop().await;
    files
}

async fn pass(context: &Context) -> usize {
    evict::pass(context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

async fn assert_whole(world: &World, store: &str, files: &[FileView]) {
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(
            world.stored(store, file).await,
            Some(pattern(seed as u64, SIZE).sha256()),
            "{store} {seed}"
        );
    }
}

/// Deletes the marker of a store, as if the store had been emptied.
async fn lose_marker(world: &World, store: &str) {
    world.direct.get(store).unwrap().delete(&ObjectKey::of_identity()).await.unwrap();
}

/// Deletes every trace of identities, as before an upgrade from a version without them.
async fn forget_identities(world: &World) {
    execute(&world.context.db, "DELETE FROM store_identities").await.unwrap();
    for store in world.direct.all() {
        store.delete(&ObjectKey::of_identity()).await.unwrap();
    }
}

async fn check(context: &Context, store: &str) -> Identity {
    identity::check(context, context.stores.get(store).unwrap()).await
}

async fn assert_nothing_is_deleted_from_one_bucket(world: &World, files: &[FileView]) {
    assert_eq!(pass(&world.context).await, 0);
    // As by a process that has not looked at the markers yet.
    drain::begin(&world.context_with(&[]), "minio", None, &Origin::default()).await.unwrap();
    drain::pass(&world.context, "minio", WorkerId::new(), &CancellationToken::new()).await.unwrap();
    assert_whole(world, "minio", files).await;
    assert_eq!(world.local.count(&Match::deletions()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bucket_under_two_host_names_keeps_its_objects_from_the_first_start_on() {
    let mut world = world().await;
    forget_identities(&world).await;
    world.configure_one_bucket().await;
    let files = synced(&world, 2).await;

    identity::check_all(&world.context).await;

    assert!(check(&world.context, "minio").await.is_proven());
    assert_eq!(check(&world.context, "s3").await, Identity::Shared { with: "minio".to_owned() });
    assert_eq!(world.context.stores.health().usability("s3"), Usability::Suspect);
    assert_nothing_is_deleted_from_one_bucket(&world, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_that_become_one_bucket_later_keep_its_objects() {
    let mut world = world().await;
    world.configure_one_bucket().await;
    let files = synced(&world, 2).await;

    assert_eq!(check(&world.context, "s3").await, Identity::Shared { with: "minio".to_owned() });
    assert_nothing_is_deleted_from_one_bucket(&world, &files).await;
    let accepted = identity::accept(&world.context, "s3", None, &Origin::default()).await;
    assert_eq!(accepted.unwrap_err().code(), ErrorCode::Conflict, "the bucket of another store");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_with_the_same_objects_is_not_the_recorded_store() {
    let world = world().await;
    let files = synced(&world, 2).await;
    let name = servers().await.cloud.fresh_bucket_name();
    let settings = [("stores.s3.bucket", name.as_str())];
    let context = world.context_with(&settings);
    let bucket = context.stores.get("s3").unwrap();
    bucket.ensure_bucket().await.unwrap();
    for (seed, file) in files.iter().enumerate() {
        let file_bytes = pattern(seed as u64, SIZE);
        let options =
            PutOptions { sha256: Some(pattern(seed as u64, SIZE).sha256()), ..PutOptions::default() };
        bucket.put(&world.key(file).await, Body::from(file_bytes.bytes()), &options).await.unwrap();
    }

    assert_eq!(pass(&context).await, 0, "without a marker");
    assert!(matches!(check(&context, "s3").await, Identity::Missing { .. }));

    let found = Uuid::now_v7();
    bucket.write_identity(found).await.unwrap();
    let context = world.context_with(&settings);
    assert_eq!(pass(&context).await, 0, "with another marker");
    let identity = check(&context, "s3").await;
    assert!(matches!(identity, Identity::Changed { found: it, .. } if it == found), "{identity:?}");
    assert_whole(&world, "minio", &files).await;

    assert_eq!(pass(&world.context_with(&[])).await, 2, "in the recorded bucket");
    assert_invariants(&world).await;
}

/// The state of the copy in each store.
async fn states(world: &World) -> Vec<String> {
    texts(&world.context.db, "SELECT store || ' ' || state FROM replicas ORDER BY store").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_in_another_bucket_is_not_lost() {
    let world = World::with("tiering.max_attempts", 2).build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(0, SIZE)).await;
    let other = servers().await.local.fresh_bucket_name();
    let exchanged = [("stores.minio.bucket", other.as_str())];
    let context = world.context_with(&exchanged);
    context.stores.get("minio").unwrap().ensure_bucket().await.unwrap();

    let worker = WorkerHandle::start(context);
    let run = world.sync().await;
    worker.stop().await;

    assert_eq!((run.files_done, run.files_failed), (0, 1), "{:?}", run.error);
    assert_eq!(states(&world).await, ["minio present", "s3 failed"]);
    let reasons = texts(&world.context.db, "SELECT last_error FROM replicas WHERE store = 's3'").await;
    assert!(reasons[0].contains("may not be the one that the database knows"), "{reasons:?}");

    // A download searches the other stores and finds the copy there: the missing one is still not lost.
    let key = world.key(&file).await;
    let options = PutOptions { sha256: Some(pattern(0, SIZE).sha256()), ..PutOptions::default() };
    world.direct.get("s3").unwrap().put(&key, Body::from(pattern(0, SIZE).bytes()), &options).await.unwrap();
    let context = world.context_with(&exchanged);
    adopt::adopt(&context, file.object_id, &["minio"], Effort::Quick).await.unwrap();
    assert_eq!(states(&world).await, ["minio present", "s3 present"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_from_a_store_that_lost_its_marker_until_it_is_accepted() {
    let world = world().await;
    let files = synced(&world, 2).await;
    lose_marker(&world, "minio").await;
    let context = world.context_with(&[]);
    trash::purge(&context, files[1].row.owner_id, files[1].row.id, &Origin::default()).await.unwrap();

    assert_eq!(pass(&context).await, 0);
    assert_eq!(reap::pass(&context).await.unwrap().objects, 0);
    let options = reconcile::Options { apply: true, safety_age: std::time::Duration::ZERO };
    let store = context.stores.get("minio").unwrap();
    let reconciled = reconcile::pass(&context, store, options, |_| {}, &CancellationToken::new()).await;
    assert_eq!(reconciled.unwrap_err().code(), ErrorCode::Conflict);
    assert_whole(&world, "minio", &files[..1]).await;
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);

    let (identity, accepted) = identity::accept(&context, "minio", None, &Origin::default()).await.unwrap();
    assert!(identity.is_proven() && accepted);
    let events = texts(&world.context.db, "SELECT target_id FROM audit_events WHERE action = 'store.accept'");
    assert_eq!(events.await, ["minio"]);
    let again = identity::accept(&context, "minio", None, &Origin::default()).await.unwrap();
    assert_eq!(again, (identity, false), "there is nothing to accept any more");

    assert_eq!(pass(&context).await, 1);
    assert_eq!(reap::pass(&context).await.unwrap().objects, 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_marker_cannot_be_read_is_not_deleted_from_and_not_in_doubt() {
    let world = world().await;
    let files = synced(&world, 1).await;
    let context = world.context_with(&[]);
    let refused = world
        .local
        .add(Fault::status(403, "AccessDenied").on(Method::GET).key_contains("_nightferry/identity"));

    assert_eq!(pass(&context).await, 0);

    assert!(refused.struck() > 0);
    assert!(!context.stores.health().identities().is_in_doubt("minio"));
    assert_whole(&world, "minio", &files).await;
    refused.remove();
    assert_eq!(pass(&context).await, 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_marked_as_lost_in_a_store_whose_identity_is_not_proven() {
    let world = world().await;
    let files = synced(&world, 1).await;
    world.direct.get("s3").unwrap().delete(&world.key(&files[0]).await).await.unwrap();
    // The marker cannot be read, so that the store is neither proven nor in doubt.
    let refused = world
        .cloud
        .add(Fault::status(403, "AccessDenied").on(Method::GET).key_contains("_nightferry/identity"));
    let context = world.context_with(&[]);
    let store = context.stores.get("s3").unwrap();
    let stop = CancellationToken::new();
    let state = async || world.replica("s3", &files[0]).await.unwrap().state;

    let options = reconcile::Options { apply: true, safety_age: std::time::Duration::ZERO };
    let summary = reconcile::pass(&context, store, options, |_| {}, &stop).await.unwrap().unwrap();
    assert_eq!(summary.of(reconcile::Kind::Missing).found, 1, "it is reported");
    assert_eq!(state().await, ReplicaState::Present);
    let options = scrub::Options {
        stores: vec![store.clone()],
        rate: None,
        bytes: None,
        time: None,
        min_age: std::time::Duration::ZERO,
    };
    let summary = scrub::pass(&context, &options, |_| {}, &stop).await.unwrap().unwrap();
    assert_eq!((summary.unread, summary.found()), (1, 0), "{summary:?}");
    assert_eq!(state().await, ReplicaState::Present);

    refused.remove();
    let summary = scrub::pass(&context, &options, |_| {}, &stop).await.unwrap().unwrap();
    assert_eq!(summary.found(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_installation_gets_its_markers_at_the_first_start() {
    let world = world().await;
    let files = synced(&world, 2).await;
    forget_identities(&world).await;

    let worker = world.start_worker_process().await;
    eventually("both identities are recorded", || async {
        let marked =
            texts(&world.context.db, "SELECT store FROM store_identities WHERE marked_at IS NOT NULL");
        (marked.await.len() == 2).then_some(())
    })
    .await;
    eventually("the local copies are evicted", || async {
        let left = texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio'").await;
        left.is_empty().then_some(())
    })
    .await;
    drop(worker);

    assert_whole(&world, "s3", &files).await;
    for store in world.direct.all() {
        let sql = format!("SELECT identity FROM store_identities WHERE store = '{}'", store.name());
        let recorded = texts(&world.context.db, &sql).await;
        assert_eq!(recorded, [store.identity().await.unwrap().unwrap().to_string()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_identities_adopts_the_markers() {
    let world = world().await;
    execute(&world.context.db, "DELETE FROM store_identities").await.unwrap();
    let marker = world.direct.get("s3").unwrap().identity().await.unwrap().unwrap();

    assert_eq!(check(&world.context, "s3").await, Identity::Proven(marker));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_a_store_that_is_no_longer_configured_can_be_accepted() {
    let world = world().await;
    let files = synced(&world, 1).await;
    execute(&world.context.db, "DELETE FROM store_identities WHERE store = 's3'").await.unwrap();
    let marker = world.direct.get("s3").unwrap().identity().await.unwrap().unwrap();
    let recorded = format!(
        "INSERT INTO store_identities (store, identity, endpoint, bucket, marked_at) VALUES ('old', '{marker}', '', '', now())"
    );
    execute(&world.context.db, &recorded).await.unwrap();
    let context = world.context_with(&[]);
    assert_eq!(pass(&context).await, 0);
    assert_eq!(check(&context, "s3").await, Identity::Shared { with: "old".to_owned() });

    let accepted = identity::accept(&context, "s3", None, &Origin::default()).await.unwrap();

    assert_eq!(accepted, (Identity::Proven(marker), true));
    let stores = texts(&world.context.db, "SELECT store FROM store_identities ORDER BY store").await;
    assert_eq!(stores, ["minio", "s3"]);
    assert_eq!(pass(&context).await, 1);
    assert_whole(&world, "s3", &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_agree_on_the_identities() {
    // The first store ignores conditional writes, the second one respects them.
    for in_memory in [true, false] {
        let builder = WorldBuilder::default();
        let builder = if in_memory { builder.in_memory() } else { builder };
        let world = builder.build().await;
        for _ in 0..3 {
            forget_identities(&world).await;
            let contexts: Vec<_> = (0..4).map(|_| world.context_with(&[])).collect();
            futures_util::future::join_all(contexts.iter().map(identity::check_all)).await;
            for context in &contexts {
                for name in ["minio", "s3"] {
                    let marker = world.direct.get(name).unwrap().identity().await.unwrap().unwrap();
                    let known = context.stores.health().identities().of(name);
                    assert_eq!(known, Some(Identity::Proven(marker)), "{name}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_is_written_once_and_belongs_to_no_listing() {
    let world = world().await;
    let store = world.direct.get("s3").unwrap();
    let first = store.identity().await.unwrap().unwrap();
    store.write_identity(Uuid::now_v7()).await.unwrap();
    assert_eq!(store.identity().await.unwrap(), Some(first), "an existing marker is never replaced");

    let options = reconcile::Options { apply: false, safety_age: std::time::Duration::ZERO };
    let store = world.context.stores.get("s3").unwrap();
    let stop = CancellationToken::new();
    let summary = reconcile::pass(&world.context, store, options, |_| {}, &stop);
    let summary = summary.await.unwrap().unwrap();
    assert_eq!((summary.objects, summary.foreign, summary.found()), (0, 0, 0));
}
