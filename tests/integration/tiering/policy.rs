//! Policy rules: conditions, first match wins, and the rule recorded in copies.

use std::collections::BTreeSet;

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::replicas::{self, Until};
use nightferry_core::db::runs::RunScope;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{evict, placement, policy, run};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

/// Names of the files that match the rule named `tested`.
async fn matched(world: &World, rule: &[(&str, &str)], files: &[FileView]) -> BTreeSet<String> {
    let keys: Vec<(String, &str)> =
        rule.iter().map(|(key, value)| (format!("policy.rules.1.{key}"), *value)).collect();
    let mut settings = vec![("policy.rules.1.name", "tested")];
    settings.extend(keys.iter().map(|(key, value)| (key.as_str(), *value)));
    let context = world.context_with(&settings);
    let mut names = BTreeSet::new();
    for file in files {
        let explained = placement::explain(&context, file.row.id, None).await.unwrap();
        if explained.rule == "tested" {
            names.insert(file.row.filename.clone());
        }
    }
    names
}

/// The settings of a rule, and the files that it matches.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c str]);

#[tokio::test(flavor = "multi_thread")]
async fn each_condition_matches_only_the_described_files() {
    let world = World::new().await;
    let (ada, bob) = (world.user().await, world.user().await);
    let old = world.upload(ada, "old.mp4", pattern(1, 10_000)).await;
    let new = world.upload(ada, "new.txt", pattern(2, 100)).await;
    let big = world.upload(bob, "big.bin", pattern(3, 300_000)).await;
    let folder = uuid::Uuid::new_v4();
    for sql in [
        format!("UPDATE objects SET stored_at = now() - interval '100 days' WHERE id = '{}'", old.object_id),
        format!(
            "UPDATE objects SET content_type = 'Text/Plain; charset=utf-8' WHERE id = '{}'",
            new.object_id
        ),
        format!("UPDATE objects SET content_type = 'video/mp4' WHERE id = '{}'", old.object_id),
        format!(
            "UPDATE objects SET content_type = 'application/octet-stream' WHERE id = '{}'",
            big.object_id
        ),
        format!("UPDATE files SET last_accessed_at = now() - interval '50 days' WHERE id = '{}'", old.row.id),
        format!(
            "INSERT INTO folders (id, owner_id, parent_id, name) SELECT '{folder}', owner_id, folder_id, 'a.b (c)' \
             FROM files WHERE id = '{}'",
            big.row.id
        ),
        format!("UPDATE files SET folder_id = '{folder}' WHERE id = '{}'", big.row.id),
        format!(
            "INSERT INTO replicas (object_id, store, state, verified_at, rule) VALUES ('{}', 's3', 'present', now(), NULL)",
            big.object_id
        ),
    ] {
        execute(&world.context.db, &sql).await.unwrap();
    }
    let email = |user| format!("SELECT email FROM users WHERE id = '{user}'");
    let bobs = texts(&world.context.db, &email(bob)).await.remove(0);
    let bobs_in_capitals = format!("nobody@example.org, {}", bobs.to_uppercase());
    let files = [old, new, big];
    let cases: &[Case<'_>] = &[
        (&[], &["big.bin", "new.txt", "old.mp4"]),
        (&[("older_than", "90d")], &["old.mp4"]),
        (&[("newer_than", "90d")], &["big.bin", "new.txt"]),
        (&[("unused_for", "30d")], &["old.mp4"]),
        (&[("unused_for", "60d")], &[]),
        (&[("used_within", "30d")], &["big.bin", "new.txt"]),
        (&[("min_size", "10kB")], &["big.bin", "old.mp4"]),
        (&[("min_size", "10001B")], &["big.bin"]),
        (&[("max_size", "10kB")], &["new.txt", "old.mp4"]),
        (&[("content_type", "video/*")], &["old.mp4"]),
        (&[("content_type", "text/plain, application/*")], &["big.bin", "new.txt"]),
        (&[("content_type", "text/p")], &[]),
        (&[("path", "/")], &["new.txt", "old.mp4"]),
        (&[("path", "/**")], &["big.bin", "new.txt", "old.mp4"]),
        (&[("path", "/a.b (c)")], &["big.bin"]),
        (&[("path", "/a?b*")], &["big.bin"]),
        (&[("path", "/axb (c)")], &[]),
        (&[("owner", &bobs_in_capitals)], &["big.bin"]),
        (&[("owner", "*@example.org")], &["big.bin", "new.txt", "old.mp4"]),
        (&[("owner", "@example.org")], &[]),
        (&[("location", "s3")], &["big.bin"]),
        (&[("location", "minio")], &["new.txt", "old.mp4"]),
        (&[("versions_behind", "1")], &[]),
        (&[("older_than", "90d"), ("max_size", "1kB")], &[]),
        (&[("older_than", "90d"), ("content_type", "video/*"), ("path", "/")], &["old.mp4"]),
    ];
    for (rule, wanted) in cases {
        let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(matched(&world, rule, &files).await, wanted, "{rule:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_matching_rule_applies_and_is_recorded() {
    let world = World::with("policy.rules.1.name", "small")
        .set("policy.rules.1.max_size", "1kB")
        .set("policy.rules.1.storage_class", "REDUCED_REDUNDANCY")
        .set("policy.rules.1.priority", 7)
        .set("policy.rules.2.name", "smallish")
        .set("policy.rules.2.max_size", "10kB")
        .set("policy.rules.2.priority", 3)
        .build()
        .await;
    let user = world.user().await;
    let small = world.upload(user, "small", pattern(1, 1000)).await;
    let smallish = world.upload(user, "smallish", pattern(2, 1001)).await;
    let large = world.upload(user, "large", pattern(3, 20_000)).await;
    let worker = world.start_worker();

    let run = world.sync().await;

    worker.stop().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3));
    let wanted = [
        (&small, "small", Some("REDUCED_REDUNDANCY")),
        (&smallish, "smallish", None),
        (&large, "default", None),
    ];
    for (file, rule, class) in wanted {
        let copy = world.replica("s3", file).await.unwrap();
        assert_eq!((copy.rule.as_deref(), copy.storage_class.as_deref()), (Some(rule), class));
        let explained = placement::explain(&world.context, file.row.id, None).await.unwrap();
        assert_eq!(explained.rule, rule);
        let store = world.direct.get("s3").unwrap();
        let head = store.head(&world.key(file).await).await.unwrap().unwrap();
        // A store may omit the default class.
        let stored = head.storage_class.filter(|class| class != "STANDARD");
        assert_eq!(stored.as_deref(), class, "the class sent to the store");
    }
    let priorities = texts(
        &world.context.db,
        "SELECT rule || ' ' || priority FROM replicas WHERE store = 's3' ORDER BY priority DESC",
    )
    .await;
    assert_eq!(priorities, ["small 7", "smallish 3", "default 0"]);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_the_defaults_apply() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 1);

    worker.stop().await;
    let rows = texts(
        &world.context.db,
        "SELECT concat_ws(' ', store, rule, coalesce(storage_class, '-'), priority, free_rule, keep_local) \
         FROM replicas ORDER BY store",
    )
    .await;
    assert_eq!(rows, ["minio upload - 0 default f", "s3 default - 0 default f"]);
    let explained = placement::explain(&world.context, file.row.id, None).await.unwrap();
    assert_eq!((explained.rule.as_str(), explained.next.action), ("default", "none"));
    assert_eq!(explained.next.because, "it has been synced, and local copies are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_kept_local_by_a_rule_are_not_synced_until_another_matches() {
    let world = World::with("policy.rules.1.name", "fresh")
        .set("policy.rules.1.newer_than", "7d")
        .set("policy.rules.1.stores", "minio")
        .build()
        .await;
    let user = world.user().await;
    let file = world.upload(user, "fresh", pattern(1, 1000)).await;
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_total, 0);
    let explained = placement::explain(&world.context, file.row.id, None).await.unwrap();
    assert_eq!((explained.rule.as_str(), explained.next.action), ("fresh", "copy"));
    assert_eq!(explained.next.because, "the rule \"fresh\" keeps it in minio until it is older");
    assert!(explained.next.at.unwrap() > file.row.uploaded_at + chrono::Duration::days(7));

    execute(&world.context.db, "UPDATE objects SET stored_at = stored_at - interval '8 days'").await.unwrap();
    let run = world.sync().await;

    worker.stop().await;
    assert_eq!((run.files_total, run.files_done), (1, 1));
    assert_eq!(world.replica("s3", &file).await.unwrap().rule.as_deref(), Some("default"));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_can_stay_local_while_the_current_one_is_synced() {
    let world = World::with("policy.rules.1.name", "old-versions")
        .set("policy.rules.1.versions_behind", 1)
        .set("policy.rules.1.stores", "minio")
        .build()
        .await;
    let user = world.user().await;
    let first = world.upload(user, "a", pattern(1, 1000)).await;
    let second = world.upload(user, "a", pattern(2, 1000)).await;
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 1);

    worker.stop().await;
    assert_eq!(world.replica("s3", &first).await.map(|copy| copy.state), None);
    assert_eq!(world.replica("s3", &second).await.map(|copy| copy.state), Some(ReplicaState::Present));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_can_require_copies_in_several_stores() {
    let world = World::with("policy.rules.1.name", "twice")
        .set("policy.rules.1.max_size", "10kB")
        .set("policy.rules.1.stores", "s3, second")
        .set("policy.rules.1.free_local_after", "0s")
        .another_cloud("second")
        .build()
        .await;
    let user = world.user().await;
    let (twice, once) = (
        world.upload(user, "twice", pattern(1, 1000)).await,
        world.upload(user, "once", pattern(2, 20_000)).await,
    );
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 3, 3));
    eventually("the local copy of one file is evicted", || async {
        world.replica("minio", &twice).await.is_none().then_some(())
    })
    .await;
    worker.stop().await;
    for (store, file, there) in
        [("s3", &twice, true), ("second", &twice, true), ("s3", &once, true), ("second", &once, false)]
    {
        assert_eq!(world.stored(store, file).await.is_some(), there, "{store}");
    }
    assert!(world.replica("minio", &once).await.is_some());
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_copy_is_kept_until_every_store_of_its_rule_has_the_file() {
    let world = World::with("policy.rules.1.name", "twice")
        .set("policy.rules.1.stores", "s3, second")
        .set("policy.rules.1.free_local_after", "0s")
        .another_cloud("second")
        .build()
        .await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 2);
    eventually("it is evicted", || async { world.replica("minio", &file).await.is_none().then_some(()) })
        .await;
    worker.stop().await;
    let other = world.upload(user, "b", pattern(2, 1000)).await;
    let half = format!(
        "INSERT INTO replicas (object_id, store, state, verified_at, rule) VALUES ('{0}', 's3', 'present', now(), 'twice'), \
         ('{0}', 'second', 'queued', NULL, 'twice')",
        other.object_id
    );
    execute(&world.context.db, &half).await.unwrap();
    let spare = format!(
        "UPDATE replicas SET spare_since = now(), free_rule = 'twice' WHERE object_id = '{}' AND store = 'minio'",
        other.object_id
    );
    execute(&world.context.db, &spare).await.unwrap();

    let evicted = evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap();

    assert_eq!(evicted, 0, "the second store does not have it yet");
}

/// Everything that a plan could change.
async fn queue(world: &World) -> Vec<String> {
    texts(
        &world.context.db,
        "SELECT concat_ws(' ', object_id, store, state, run_id, rule, storage_class, priority, attempts, not_before) \
         FROM replicas ORDER BY object_id, store",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_twice_changes_nothing() {
    let world = World::with("policy.rules.1.name", "small")
        .set("policy.rules.1.max_size", "1kB")
        .set("policy.rules.1.storage_class", "STANDARD_IA")
        .build()
        .await;
    let user = world.user().await;
    for seed in 0..4 {
        world.upload(user, &format!("{seed}"), pattern(seed, 400 * (seed + 1))).await;
    }
    let requested = world.request_run(RunScope::default()).await;
    let started = run::start_queued(&world.context).await.unwrap().unwrap();
    assert_eq!(started.files_total, 4);
    let before = queue(&world).await;

    let policy = policy::of(&world.context).unwrap();
    let mut conn = world.context.db.conn().await.unwrap();
    let planned = replicas::plan_until(&mut conn, requested.id, &policy, &RunScope::default(), Until::Now)
        .await
        .unwrap();

    assert_eq!((planned.files, planned.bytes), (0, 0), "nothing is added");
    assert_eq!(queue(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_copies_follow_the_current_rules() {
    let world = World::new().await;
    let user = world.user().await;
    let (small, large) = (
        world.upload(user, "small", pattern(1, 100)).await,
        world.upload(user, "large", pattern(2, 5000)).await,
    );
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();
    let given_up = world.upload(user, "given-up", pattern(3, 100)).await;
    let failed = format!(
        "INSERT INTO replicas (object_id, store, state, rule) VALUES ('{}', 's3', 'failed', 'default')",
        given_up.object_id
    );
    execute(&world.context.db, &failed).await.unwrap();
    let context = world.context_with(&[
        ("policy.rules.1.name", "small"),
        ("policy.rules.1.max_size", "1kB"),
        ("policy.rules.1.stores", "minio"),
        ("policy.rules.2.name", "rest"),
        ("policy.rules.2.storage_class", "REDUCED_REDUNDANCY"),
    ]);

    world.request_run(RunScope::default()).await;
    let started = run::start_queued(&context).await.unwrap().unwrap();

    assert_eq!(started.files_total, 1);
    assert!(world.replica("s3", &small).await.is_none(), "it is no longer required there");
    let given_up = world.replica("s3", &given_up).await.unwrap();
    assert_eq!(given_up.state, ReplicaState::Evicting, "parts of it may be stored there");
    let large = world.replica("s3", &large).await.unwrap();
    assert_eq!((large.run_id, large.rule.as_deref()), (Some(started.id), Some("rest")));
    assert_eq!(large.storage_class.as_deref(), Some("REDUCED_REDUNDANCY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_no_longer_selected_by_a_rule_leave_nothing_in_the_cloud() {
    let mut world = World::with("tiering.max_attempts", 1).build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let other = world.upload(user, "b", pattern(2, 1000)).await;
    // The cloud store has the content, and its responses are lost.
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Answer);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached_by(2).await;
    world.cloud.break_connections().await;
    gate.open();
    let run = world.ended(requested.id).await;
    assert_eq!((run.files_done, run.files_failed), (0, 2));
    worker.stop().await;
    assert!(world.stored("s3", &file).await.is_some());
    assert!(world.stored("s3", &other).await.is_some());

    world.reconfigure(&[
        ("policy.rules.1.name", "near"),
        ("policy.rules.1.max_size", "1MiB"),
        ("policy.rules.1.stores", "minio"),
    ]);
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_total, 0);
    eventually("the cloud store has no row of them", || async {
        let gone = world.replica("s3", &file).await.is_none() && world.replica("s3", &other).await.is_none();
        gone.then_some(())
    })
    .await;

    assert!(world.stored("s3", &file).await.is_none() && world.stored("s3", &other).await.is_none());
    assert_eq!(world.stored("minio", &file).await, Some(pattern(1, 1000).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}
