//! Rules for local copies: each is evicted or kept by its own rule.

use std::collections::BTreeSet;

use nightferry_core::db::audit::Origin;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{evict, fetch, placement, policy, watermark};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use tokio_util::sync::CancellationToken;

/// Three kinds of files: evicted at once, kept permanently, and by the default, which keeps them.
fn three_kinds() -> WorldBuilder {
    World::with("policy.rules.1.name", "short")
        .set("policy.rules.1.max_size", "1kB")
        .set("policy.rules.1.free_local_after", "0s")
        .set("policy.rules.2.name", "kept")
        .set("policy.rules.2.max_size", "10kB")
        .set("policy.rules.2.keep_local", true)
}

async fn upload(world: &World) -> [FileView; 3] {
    let user = world.user().await;
    [
        world.upload(user, "short", pattern(1, 500)).await,
        world.upload(user, "kept", pattern(2, 5_000)).await,
        world.upload(user, "usual", pattern(3, 50_000)).await,
    ]
}

/// Names of the files with a local copy.
async fn at_hand(world: &World) -> BTreeSet<String> {
    texts(
        &world.context.db,
        "SELECT f.filename FROM files f JOIN file_versions v ON v.file_id = f.id JOIN replicas r ON r.object_id = v.object_id \
         WHERE r.store = 'minio' AND r.state = 'present'",
    )
    .await
    .into_iter()
    .collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn pass(context: &nightferry_core::context::Context) -> usize {
    let stop = CancellationToken::new();
    policy::review(context, &stop).await.unwrap();
    evict::pass(context, WorkerId::new(), &stop).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_copies_are_evicted_by_the_rule_of_their_file() {
    let world = three_kinds().build().await;
    let [short, kept, usual] = upload(&world).await;
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 3);

    eventually("one of them is evicted", || async {
        (at_hand(&world).await == names(&["kept", "usual"])).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(pass(&world.context).await, 0);
    for (file, because) in [
        (&short, "it has been synced and its local copy was evicted"),
        (&kept, "it has been synced, and the rule \"kept\" keeps its local copy"),
        (&usual, "it has been synced, and local copies are kept"),
    ] {
        let explained = placement::explain(&world.context, file.row.id, None).await.unwrap();
        assert_eq!(explained.next.because, because);
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_rules_apply_to_synced_files_and_removed_ones_do_not() {
    let world = World::new().await;
    let [short, ..] = upload(&world).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;
    assert_eq!(pass(&world.context).await, 0);

    let later = world.context_with(&[
        ("policy.rules.1.name", "short"),
        ("policy.rules.1.max_size", "1kB"),
        ("policy.rules.1.free_local_after", "1h"),
    ]);
    assert_eq!(pass(&later).await, 0, "less than an hour");
    let explained = placement::explain(&later, short.row.id, None).await.unwrap();
    assert_eq!(
        (explained.next.action, explained.rule.as_str()),
        ("free", "default"),
        "the rule by which it was copied"
    );
    assert_eq!(
        explained.next.because,
        "it has been synced, and its local copy is evicted by the rule \
        \"short\""
    );
    let spare_since = world.replica("minio", &short).await.unwrap().spare_since.unwrap();
    assert_eq!(explained.next.at, Some(spare_since + chrono::Duration::hours(1)));

    assert_eq!(pass(&world.context).await, 0, "the rule was removed");
    let rules = texts(&world.context.db, "SELECT DISTINCT free_rule FROM replicas ORDER BY 1").await;
    assert_eq!(rules, ["default", "short"], "evaluated again when the next review is due");
    execute(&world.context.db, "DELETE FROM leases").await.unwrap();
    pass(&world.context).await;
    assert_eq!(texts(&world.context.db, "SELECT DISTINCT free_rule FROM replicas").await, ["default"]);

    execute(&world.context.db, "UPDATE replicas SET spare_since = spare_since - interval '2h'")
        .await
        .unwrap();
    execute(&world.context.db, "DELETE FROM leases").await.unwrap();
    assert_eq!(pass(&later).await, 1);
    assert_eq!(at_hand(&world).await, names(&["kept", "usual"]));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_files_are_evicted_after_the_configured_time() {
    let world = World::with("policy.rules.1.name", "cold")
        .set("policy.rules.1.unused_for", "30d")
        .set("policy.rules.1.free_local_after", "0s")
        .build()
        .await;
    let files = upload(&world).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;
    assert_eq!(pass(&world.context).await, 0);
    let age = "UPDATE objects SET stored_at = stored_at - interval '40 days'";
    execute(&world.context.db, age).await.unwrap();
    execute(&world.context.db, "UPDATE replicas SET last_used_at = last_used_at - interval '40 days'")
        .await
        .unwrap();
    let used = format!(
        "UPDATE files SET last_accessed_at = now() - interval '1 day' WHERE id = '{}'",
        files[1].row.id
    );
    execute(&world.context.db, &used).await.unwrap();
    assert_eq!(pass(&world.context).await, 0, "the next review is not due");

    execute(&world.context.db, "DELETE FROM leases").await.unwrap();
    assert_eq!(pass(&world.context).await, 2);

    assert_eq!(at_hand(&world).await, names(&["kept"]));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_keeps_files_with_a_keep_local_rule() {
    let world = three_kinds().set("tiering.local_capacity", "1kB").build().await;
    upload(&world).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;
    let stop = CancellationToken::new();
    evict::pass(&world.context, WorkerId::new(), &stop).await.unwrap();
    watermark::pass(&world.context, WorkerId::new(), &stop).await.unwrap();

    assert_eq!(at_hand(&world).await, names(&["kept"]));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetched_copy_follows_the_rule_of_its_file() {
    let world = three_kinds().set("tiering.free_local_after", "0s").build().await;
    let files = upload(&world).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    eventually("two go", || async { (at_hand(&world).await == names(&["kept"])).then_some(()) }).await;
    // As if the kept copy was deleted from outside.
    execute(&world.context.db, "DELETE FROM replicas WHERE store = 'minio'").await.unwrap();
    let kept = files[1].row.id;

    fetch::request(&world.context, kept, None, &Origin::default()).await.unwrap();

    eventually("it is made again", || async { (at_hand(&world).await == names(&["kept"])).then_some(()) })
        .await;
    worker.stop().await;
    let rule =
        texts(&world.context.db, "SELECT free_rule || ' ' || keep_local FROM replicas WHERE store = 'minio'")
            .await;
    assert_eq!(rule, ["kept true"]);
    assert_eq!(pass(&world.context).await, 0);
}
