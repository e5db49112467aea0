//! A finding is knowledge: a copy that a reconcile finds missing or wrong counts as no copy at once, even if nothing is
//! to be fixed. It is not repaired before somebody decides so, and counts again when it proves right.

use std::time::Duration;

use futures_util::StreamExt as _;
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::replicas::{self, Departing, Departure};
use nightferry_core::file::details::FileView;
use nightferry_core::file::download;
use nightferry_core::ids::{LeaseToken, WorkerId};
use nightferry_core::store::{Body, ObjectKey, PutOptions};
use nightferry_core::tiering::reconcile::{self, Event, Finding, Outcome};
use nightferry_core::tiering::relocate::drain;
use nightferry_core::tiering::{evict, placement, scrub};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::world::WorkerHandle;
use nightferry_tests::harness::{World, assert_invariants, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 10_000;

/// Files in both stores, whose local copies may be evicted.
async fn synced(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, SIZE)).await);
    }
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    worker.stop().await;
    files
}

async fn world() -> World {
    World::with("tiering.free_local_after", "0s").build().await
}

async fn reconcile(world: &World, store: &str, apply: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Found(finding) = event {
            findings.push(finding.clone());
        }
    };
    let options = reconcile::Options { apply, safety_age: Duration::from_secs(24 * 3600) };
    let store = world.context.stores.get(store).unwrap();
    let stop = CancellationToken::new();
    let pass = reconcile::pass(&world.context, store, options, tell, &stop);
    assert!(pass.await.unwrap().unwrap().complete);
    findings
}

async fn scrub(world: &World) -> scrub::Summary {
    let options = scrub::Options {
        stores: world.context.stores.all().cloned().collect(),
        rate: None,
        bytes: None,
        time: None,
        min_age: Duration::ZERO,
    };
    scrub::pass(&world.context, &options, |_| {}, &CancellationToken::new()).await.unwrap().unwrap()
}

/// State, and whether it is suspect.
async fn state(world: &World, store: &str, file: &FileView) -> (ReplicaState, bool) {
    let replica = world.replica(store, file).await.unwrap();
    (replica.state, replica.is_suspect())
}

async fn vanish(world: &World, store: &str, file: &FileView) {
    world.direct.get(store).unwrap().delete(&world.key(file).await).await.unwrap();
}

async fn write(world: &World, store: &str, file: &FileView, bytes: Vec<u8>) {
    let key = world.key(file).await;
    let body = Body::Bytes(bytes.into());
    world.direct.get(store).unwrap().put(&key, body, &PutOptions::default()).await.unwrap();
}

async fn download(world: &World, file: &FileView) -> Sha256 {
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, None).await.unwrap();
    let mut hasher = Sha256Hasher::new();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk.unwrap());
    }
    hasher.finish()
}

const SUSPECT: (ReplicaState, bool) = (ReplicaState::Lost, true);
const PRESENT: (ReplicaState, bool) = (ReplicaState::Present, false);

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_found_missing_or_wrong_counts_as_no_copy_although_nothing_is_to_be_fixed() {
    let world = world().await;
    let files = synced(&world, 3).await;
    vanish(&world, "s3", &files[0]).await;
    write(&world, "s3", &files[1], vec![0; 3]).await;

    let found = reconcile(&world, "s3", false).await;

    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|finding| finding.outcome == Outcome::Reported), "{found:?}");
    for file in &files[..2] {
        assert_eq!(state(&world, "s3", file).await, SUSPECT);
        let replica = world.replica("s3", file).await.unwrap();
        assert!(replica.last_error.unwrap().contains("suspect"));
        let next = placement::explain(&world.context, file.row.id, None).await.unwrap().next;
        assert_eq!(next.action, "suspect");
        assert!(next.because.contains("nightferry reconcile --store s3 --apply"), "{}", next.because);
    }
    let located = texts(&world.context.db, "SELECT storage_location FROM files ORDER BY filename").await;
    assert_eq!(located, ["minio", "minio", "s3"]);
    // The rows alone keep the local copies: no request is sent for the suspect ones.
    world.cloud.forget_requests();
    let evicted = evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap();
    assert_eq!(evicted, 1);
    for file in &files[..2] {
        assert_eq!(world.cloud.count(&Match::any().key_contains(world.key(file).await.as_str())), 0);
        assert_eq!(state(&world, "minio", file).await, PRESENT);
    }
    assert_eq!(reconcile(&world, "s3", false).await.len(), 2, "it is still a difference");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_copy_is_repaired_only_on_request() {
    let world = world().await;
    let files = synced(&world, 2).await;
    vanish(&world, "s3", &files[0]).await;
    reconcile(&world, "s3", false).await;
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));

    assert_eq!(world.sync().await.files_done, 0);
    assert_eq!(state(&world, "s3", &files[0]).await, SUSPECT);
    assert_eq!(world.stored("s3", &files[0]).await, None);

    let found = reconcile(&world, "s3", true).await;
    assert_eq!(found[0].outcome, Outcome::Applied);
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Queued);
    assert_eq!(world.sync().await.files_done, 1);
    assert_eq!(state(&world, "s3", &files[0]).await, PRESENT);
    worker.stop().await;
    let left = texts(&world.context.db, "SELECT 1 FROM replicas WHERE suspect_since IS NOT NULL").await;
    assert!(left.is_empty(), "a transition out of this state ends the suspicion");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_copy_that_proves_right_counts_again() {
    let world = world().await;
    let files = synced(&world, 3).await;
    for file in &files {
        vanish(&world, "s3", file).await;
    }
    reconcile(&world, "s3", false).await;
    write(&world, "s3", &files[0], pattern(0, SIZE).bytes().to_vec()).await;
    // The size is right, the content is not.
    write(&world, "s3", &files[1], vec![0; usize::try_from(SIZE).unwrap()]).await;

    let found = reconcile(&world, "s3", false).await;

    assert_eq!(found.len(), 1, "only the third is still missing: {found:?}");
    assert_eq!(state(&world, "s3", &files[0]).await, PRESENT);
    assert_eq!(state(&world, "s3", &files[1]).await, SUSPECT);
    let location = texts(&world.context.db, "SELECT storage_location FROM files WHERE filename = '0'").await;
    assert_eq!(location, ["s3"]);

    // Scrub reads them: what is back is present, what is not is lost and repaired.
    write(&world, "s3", &files[2], pattern(2, SIZE).bytes().to_vec()).await;
    let summary = scrub(&world).await;
    assert_eq!((summary.returned, summary.found()), (1, 1), "{summary:?}");
    assert_eq!(state(&world, "s3", &files[2]).await, PRESENT);
    assert_eq!(world.replica("s3", &files[1]).await.unwrap().state, ReplicaState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_copy_that_was_never_verified_counts_again_after_scrub_has_read_it() {
    let world = world().await;
    let files = synced(&world, 1).await;
    let unproved = "UPDATE replicas SET verified_at = NULL WHERE store = 's3'";
    execute(&world.context.db, unproved).await.unwrap();
    vanish(&world, "s3", &files[0]).await;
    reconcile(&world, "s3", false).await;
    assert_eq!(state(&world, "s3", &files[0]).await, SUSPECT);
    write(&world, "s3", &files[0], pattern(0, SIZE).bytes().to_vec()).await;

    assert_eq!(scrub(&world).await.returned, 1);

    assert_eq!(state(&world, "s3", &files[0]).await, PRESENT);
    assert!(world.replica("s3", &files[0]).await.unwrap().verified_at.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_prefer_other_copies_and_try_a_suspect_one_last() {
    let world = World::new().await;
    let files = synced(&world, 1).await;
    let bytes = pattern(0, SIZE).bytes().to_vec();
    vanish(&world, "minio", &files[0]).await;
    reconcile(&world, "minio", false).await;
    assert_eq!(state(&world, "minio", &files[0]).await, SUSPECT);
    write(&world, "minio", &files[0], bytes).await;
    let reads = || Match::method(Method::GET).key_contains("user-");
    world.local.forget_requests();

    assert_eq!(download(&world, &files[0]).await, pattern(0, SIZE).sha256());
    assert_eq!(world.local.count(&reads()), 0, "the cloud copy is not suspect");

    execute(&world.context.db, "UPDATE replicas SET state = 'lost' WHERE store = 's3'").await.unwrap();
    assert_eq!(download(&world, &files[0]).await, pattern(0, SIZE).sha256());
    assert_eq!(world.local.count(&reads()), 1, "better than none");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_becomes_suspect_in_a_store_that_may_be_another_one() {
    let world = world().await;
    let files = synced(&world, 1).await;
    vanish(&world, "s3", &files[0]).await;
    world.direct.get("s3").unwrap().delete(&ObjectKey::of_identity()).await.unwrap();
    nightferry_core::object::identity::check_all(&world.context).await;

    let found = reconcile(&world, "s3", false).await;

    assert!(
        matches!(&found[0].outcome, Outcome::Kept(why) if why.contains("may not be the one")),
        "{found:?}"
    );
    assert_eq!(state(&world, "s3", &files[0]).await, PRESENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn suspect_copies_are_counted() {
    let world = world().await;
    let files = synced(&world, 2).await;
    vanish(&world, "s3", &files[0]).await;
    reconcile(&world, "s3", false).await;

    let counts = replicas::count_by_state(&mut world.context.db.conn().await.unwrap()).await.unwrap();
    let suspects: Vec<_> =
        counts.iter().map(|row| (row.store.as_str(), row.state, row.replicas, row.suspects)).collect();
    let expected = [
        ("minio", ReplicaState::Present, 2, 0),
        ("s3", ReplicaState::Lost, 1, 1),
        ("s3", ReplicaState::Present, 1, 0),
    ];
    for row in expected {
        assert!(suspects.contains(&row), "{suspects:?}");
    }
    let (_, why) = world.json_command(&["file", "why", &files[0].row.id.to_string()]).await;
    let copies = why["replicas"].as_array().unwrap();
    let copy = copies.iter().find(|copy| copy["store"] == "s3").unwrap();
    assert!(copy["suspect_since"].is_string(), "{why}");
    let (_, status) = world.json_command(&["sync", "status"]).await;
    let lost = status["replicas"].as_array().unwrap().iter().find(|row| row["state"] == "lost").unwrap();
    assert_eq!(lost["suspect"], 1, "{status}");
    let (_, stores) = world.json_command(&["store", "list"]).await;
    assert!(stores.to_string().contains("\"suspect\":1"), "{stores}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_copy_that_cannot_be_checked_is_counted_and_stays_suspect() {
    let world = world().await;
    let file = synced(&world, 1).await.remove(0);
    vanish(&world, "s3", &file).await;
    reconcile(&world, "s3", false).await;
    write(&world, "s3", &file, pattern(0, SIZE).bytes().to_vec()).await;
    let fault = world.cloud.add(Fault::status(500, "InternalError").on(Method::HEAD).key_contains("user-"));
    let options = reconcile::Options { apply: true, safety_age: Duration::ZERO };
    let store = world.context.stores.get("s3").unwrap();
    let stop = CancellationToken::new();

    let summary = reconcile::pass(&world.context, store, options, |_| {}, &stop).await.unwrap().unwrap();

    assert_eq!((summary.unchecked, summary.found()), (1, 0), "{summary:?}");
    assert!(summary.last_error.unwrap().contains("500"));
    assert_eq!(state(&world, "s3", &file).await, SUSPECT);
    fault.remove();
    reconcile(&world, "s3", false).await;
    assert_eq!(state(&world, "s3", &file).await, PRESENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_copy_that_scrub_cannot_check_is_counted_as_unread() {
    let world = world().await;
    let file = synced(&world, 1).await.remove(0);
    vanish(&world, "s3", &file).await;
    reconcile(&world, "s3", false).await;
    world.cloud.add(Fault::status(500, "InternalError").on(Method::HEAD).key_contains("user-"));

    let summary = scrub(&world).await;

    assert_eq!((summary.unread, summary.found()), (1, 0), "{summary:?}");
    assert_eq!(state(&world, "s3", &file).await, SUSPECT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_became_suspect_before_its_eviction_is_not_evicted_as_a_sound_one() {
    let world = world().await;
    let file = synced(&world, 1).await.remove(0);
    drain::begin(&world.context, "minio", None, &Origin::default()).await.unwrap();
    // It was present when the drain selected it.
    let mut conn = world.context.db.conn().await.unwrap();
    replicas::mark_suspect(&mut conn, file.object_id, "minio", &["s3"], "missing", None).await.unwrap();
    let terms = Departure {
        store: "minio",
        to: &["s3"],
        primary_stores: &["s3"],
        worker: WorkerId::new(),
        token: LeaseToken::new(),
        lease: Duration::from_secs(60),
    };
    let objects = [file.object_id];

    let sound = replicas::claim_departures(&mut conn, terms, Departing::Sound, &objects).await.unwrap();

    assert!(sound.is_empty(), "calling its eviction off would make it present without a proof");
    assert_eq!(state(&world, "minio", &file).await, SUSPECT);
    let doubtful = replicas::claim_departures(&mut conn, terms, Departing::Doubtful, &objects).await.unwrap();
    assert_eq!(doubtful.len(), 1, "it is verified before it is kept");
}
