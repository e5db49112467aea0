//! Rebalancing the local stores: the plan, the moves, and uninterrupted reads.

use nightferry_core::db::audit::Origin;
use nightferry_core::error::Error;
use nightferry_core::file::change;
use nightferry_core::file::details::FileView;
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::relocate::rebalance;
use nightferry_core::tiering::{placement, replication};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

use super::{counted, drain, even_out, evened_out, hash, keys};

const MIB: u64 = 1024 * 1024;

/// How many files and bytes would move between which stores, with the default tolerance.
async fn planned(world: &World) -> Vec<(String, String, u64, u64)> {
    let plan = rebalance::plan(&world.context, rebalance::TOLERANCE).await.unwrap();
    plan.shifts.into_iter().map(|shift| (shift.from, shift.to, shift.files, shift.bytes)).collect()
}

/// Uploads files of these sizes; the content of each is determined by its index.
async fn upload(world: &World, sizes: &[u64]) -> Vec<(FileView, u64, u64)> {
    let user = world.user().await;
    let mut files = Vec::new();
    for (seed, size) in (0..).zip(sizes) {
        files.push((world.upload(user, &format!("{seed}"), pattern(seed, *size)).await, seed, *size));
    }
    files
}

async fn assert_readable(world: &World, files: &[(FileView, u64, u64)]) {
    for (file, seed, size) in files {
        assert_eq!(hash(world, file).await, pattern(*seed, *size).sha256(), "file {seed}");
    }
}

async fn keep_reading(world: &World, files: &[(FileView, u64, u64)]) {
    loop {
        assert_readable(world, files).await;
    }
}

/// Number of local copies of the objects, as `copies x objects`.
async fn copies(world: &World) -> Vec<String> {
    let sql = "SELECT n || ' x ' || count(*) FROM (SELECT count(*) AS n FROM replicas \
               WHERE store IN ('minio', 'nas', 'den') GROUP BY object_id) c GROUP BY n ORDER BY n";
    texts(&world.context.db, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_would_be_moved_and_changes_nothing() {
    let world = WorldBuilder::default().another_local("nas").build().await;
    upload(&world, &[10_000; 10]).await;

    let plan = rebalance::plan(&world.context, 5).await.unwrap();

    assert_eq!(planned(&world).await, [("minio".to_owned(), "nas".to_owned(), 5, 50_000)]);
    assert_eq!(plan.measure(), "bytes");
    let shares: Vec<_> = plan
        .stores
        .iter()
        .map(|store| (store.name.as_str(), store.used, store.after, store.share, store.share_after))
        .collect();
    assert_eq!(
        shares,
        [("minio", 100_000, 50_000, Some(1000), Some(500)), ("nas", 0, 50_000, Some(0), Some(500))]
    );
    assert_eq!(states(&world).await, counted([("minio present", 10)]));
    assert!(rebalance::look(&world.context).await.unwrap().is_none());
    let tracks = "SELECT 1 FROM replicas WHERE moves_to IS NOT NULL UNION ALL SELECT 1 FROM rebalance_routes \
                  UNION ALL SELECT 1 FROM audit_events WHERE action LIKE 'store.%'";
    assert!(texts(&world.context.db, tracks).await.is_empty());
    let within = rebalance::plan(&world.context, 50).await.unwrap();
    assert!(within.shifts.is_empty(), "every share is within 50 % of the mean");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_move_until_the_stores_are_balanced_and_a_second_run_moves_nothing() {
    let world = WorldBuilder::default()
        .another_local("nas")
        .set("tiering.multipart_threshold_mib", 8)
        .set("tiering.part_size_mib", 8)
        .build()
        .await;
    let mut sizes: Vec<u64> = (0..20).map(|seed| 900_000 + seed * 10_000).collect();
    // Uploaded first, it is moved first.
    sizes.insert(0, 9 * MIB);
    let files = upload(&world, &sizes[..15]).await;
    change::pin(&world.context, files[0].0.row.id, true, &Origin::default()).await.unwrap();
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 15);
    let user = files[0].0.row.owner_id;
    let mut files = files;
    for (seed, size) in (15..).zip(&sizes[15..]) {
        files.push((world.upload(user, &format!("{seed}"), pattern(seed, *size)).await, seed, *size));
    }
    let spare = "SELECT object_id || ' ' || spare_since || free_rule || last_used_at || keep_local FROM replicas \
                 WHERE store IN ('minio', 'nas') AND spare_since IS NOT NULL ORDER BY 1";
    let before = texts(&world.context.db, spare).await;

    let begun = even_out(&world).await;
    let ended = tokio::select! {
        ended = evened_out(&world) => ended,
        () = keep_reading(&world, &files) => unreachable!(),
    };

    assert_eq!(begun.state(), "running");
    assert_eq!((ended.state(), ended.moved()), ("finished", begun.planned()));
    assert!(ended.moved().0 > 1, "{ended:?}");
    assert_readable(&world, &files).await;
    assert_eq!(copies(&world).await, ["1 x 21"], "as many as before");
    let moved = ended.moved().0 as usize;
    assert_eq!((keys(&world, "nas").await.len(), keys(&world, "minio").await.len()), (moved, 21 - moved));
    assert_eq!(
        world.stored("nas", &files[0].0).await,
        Some(pattern(0, 9 * MIB).sha256()),
        "pinned, and it moved"
    );
    assert_eq!(texts(&world.context.db, spare).await, before, "evictable copies are still evictable");
    let plan = rebalance::plan(&world.context, rebalance::TOLERANCE).await.unwrap();
    for store in &plan.stores {
        assert!((450..=550).contains(&store.share.unwrap()), "{store:?}");
    }
    assert!(plan.shifts.is_empty(), "{plan:?}");

    let again = even_out(&world).await;

    assert_eq!((again.state(), again.planned()), ("finished", (0, 0)));
    assert_eq!(world.sync().await.files_done, 6, "the rest is synced as usual");
    worker.stop().await;
    let acts = "SELECT action || ' ' || (detail->>'tolerance') FROM audit_events WHERE action LIKE 'store.%' ORDER BY id";
    assert_eq!(texts(&world.context.db, acts).await, ["store.rebalance 5", "store.rebalance 5"]);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_filled_by_its_capacity_and_gets_no_file_that_is_too_large() {
    let world = WorldBuilder::default()
        .another_local("nas")
        .set("stores.minio.capacity", "100000B")
        .set("stores.nas.capacity", "300000B")
        .build()
        .await;
    let files = upload(&world, &[20_000, 50_000, 20_000, 20_000]).await;
    // A share of 27.5 % is 27,500 of 100,000 bytes and 82,500 of 300,000 bytes.
    let plan = rebalance::plan(&world.context, 5).await.unwrap();
    assert_eq!(plan.measure(), "capacity");
    assert_eq!(plan.stores[0].share, Some(1100));
    assert_eq!(planned(&world).await, [("minio".to_owned(), "nas".to_owned(), 2, 70_000)]);
    let worker = world.start_worker();

    even_out(&world).await;
    evened_out(&world).await;

    worker.stop().await;
    let plan = rebalance::plan(&world.context, 5).await.unwrap();
    assert_eq!(
        (plan.stores[0].used, plan.stores[1].used),
        (40_000, 70_000),
        "a third move would exceed the limit"
    );
    assert!(plan.shifts.is_empty(), "{plan:?}");
    assert_readable(&world, &files).await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicated_files_keep_two_copies_when_moved() {
    let world =
        World::with("tiering.local_replicas", 2).another_local("nas").another_local("den").build().await;
    let worker = world.start_worker();
    let files = upload(&world, &[10_000; 12]).await;
    eventually("two copies of each", || async {
        (states(&world).await == counted([("den present", 12), ("minio present", 12)])).then_some(())
    })
    .await;

    even_out(&world).await;
    evened_out(&world).await;

    assert_eq!(copies(&world).await, ["2 x 12"]);
    assert_eq!(
        states(&world).await,
        counted([("den present", 8), ("minio present", 8), ("nas present", 8)]),
        "a third of all copies each"
    );
    execute(&world.context.db, "DELETE FROM leases").await.unwrap();
    assert_eq!(replication::pass(&world.context, &CancellationToken::new()).await.unwrap(), 0);
    assert!(planned(&world).await.is_empty());
    assert_readable(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_moved_if_every_store_has_every_file() {
    let world = World::with("tiering.local_replicas", 2)
        .another_local("nas")
        .set("stores.minio.capacity", "100000B")
        .set("stores.nas.capacity", "900000B")
        .build()
        .await;
    let worker = world.start_worker();
    upload(&world, &[10_000; 5]).await;
    eventually("both have all", || async {
        (states(&world).await == counted([("minio present", 5), ("nas present", 5)])).then_some(())
    })
    .await;

    assert!(planned(&world).await.is_empty());
    assert_eq!(even_out(&world).await.state(), "finished");
    worker.stop().await;
    assert_eq!(copies(&world).await, ["2 x 5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_drained_down_or_suspect_is_excluded() {
    let world = WorldBuilder::default().another_local("nas").another_local("den").build().await;
    upload(&world, &[10_000; 6]).await;
    let excluded = async || {
        let plan = rebalance::plan(&world.context, 5).await.unwrap();
        let left: Vec<String> = plan
            .stores
            .iter()
            .filter_map(|store| Some(format!("{} {}", store.name, store.excluded?.as_str())))
            .collect();
        (
            left,
            plan.shifts.into_iter().map(|shift| format!("{} {}", shift.to, shift.files)).collect::<Vec<_>>(),
        )
    };
    drain(&world, "nas").await;
    assert_eq!(excluded().await, (vec!["nas draining".to_owned()], vec!["den 3".to_owned()]));
    let seen = |up: bool, error: &str| {
        format!(
            "INSERT INTO store_health (store, observer, program, up, since, last_error) \
             VALUES ('den', '00000000-0000-0000-0000-000000000001', 'api', {up}, now(), {error}) \
             ON CONFLICT (store, observer) DO UPDATE SET up = EXCLUDED.up, last_error = EXCLUDED.last_error"
        )
    };
    for (sql, word) in [(seen(false, "'no'"), "den unhealthy"), (seen(true, "'once'"), "den suspect")] {
        execute(&world.context.db, &sql).await.unwrap();
        assert_eq!(excluded().await, (vec![word.to_owned(), "nas draining".to_owned()], vec![]));
        let refused = rebalance::begin(&world.context, 5, None, &Origin::default()).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    execute(&world.context.db, &seen(true, "NULL")).await.unwrap();
    assert_eq!(excluded().await.1, ["den 3"]);
    assert_eq!(states(&world).await, counted([("minio present", 6)]));
    let cloud = rebalance::check_role(StoreRole::Cloud);
    assert!(matches!(&cloud, Err(Error::Validation(fields)) if fields[0].field == "role"), "{cloud:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_rebalancing_keeps_finished_moves_completes_started_ones_and_can_be_restarted() {
    let world = WorldBuilder::default()
        .another_local("nas")
        .set("tiering.concurrency", 1)
        .set("tiering.batch_size", 1)
        .build()
        .await;
    let files = upload(&world, &[10_000; 8]).await;
    let worker = world.start_worker();
    // The first one has arrived; the second one is in progress.
    let second = world.key(&files[1].0).await;
    let gate =
        world.proxy("nas").gate(Match::method(Method::PUT).key_contains(second.as_str()), Hold::Request);
    even_out(&world).await;
    gate.reached().await;
    eventually("the first one has moved", || async {
        (keys(&world, "minio").await.len() == 7).then_some(())
    })
    .await;
    let placed = placement::explain(&world.context, files[1].0.row.id, None).await.unwrap();
    assert_eq!(
        (placed.next.action, placed.next.because.contains("nas")),
        ("move", true),
        "{:?}",
        placed.next
    );

    assert!(rebalance::stop(&world.context, None, &Origin::default()).await.unwrap());

    assert!(!rebalance::stop(&world.context, None, &Origin::default()).await.unwrap(), "once is enough");
    let stopping = rebalance::look(&world.context).await.unwrap().unwrap();
    assert_eq!(stopping.state(), "stopping");
    let early = rebalance::begin(&world.context, 5, None, &Origin::default()).await;
    assert!(matches!(early, Err(Error::Conflict(_))), "{early:?}");
    gate.open();
    let stopped = evened_out(&world).await;
    assert_eq!((stopped.state(), stopped.moved()), ("stopped", (2, 20_000)));
    assert_eq!(states(&world).await, counted([("minio present", 6), ("nas present", 2)]));
    assert_eq!(copies(&world).await, ["1 x 8"]);

    even_out(&world).await;
    evened_out(&world).await;

    assert_eq!(states(&world).await, counted([("minio present", 4), ("nas present", 4)]));
    assert_readable(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}
