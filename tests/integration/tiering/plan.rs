//! Plans: they change nothing, a run executes exactly their items, and they are rejected after changes.

use std::collections::BTreeSet;

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_core::db::plans::Item;
use nightferry_core::db::runs::{NewRun, Run, RunScope};
use nightferry_core::error::{Error, Noun, Result};
use nightferry_core::file::details::FileView;
use nightferry_core::file::trash;
use nightferry_core::ids::PlanId;
use nightferry_core::tiering::plan::{self, PlanView};
use nightferry_core::tiering::{reap, run};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, pattern};

fn with_rules() -> WorldBuilder {
    World::with("policy.rules.1.name", "small")
        .set("policy.rules.1.max_size", "1kB")
        .set("policy.rules.1.stores", "minio")
        .set("policy.rules.2.name", "medium")
        .set("policy.rules.2.max_size", "10kB")
        .set("policy.rules.2.storage_class", "REDUCED_REDUNDANCY")
        .set("policy.rules.2.priority", 4)
}

async fn upload(world: &World) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for (seed, (name, size)) in [("small", 500), ("medium", 5_000), ("large", 50_000)].into_iter().enumerate()
    {
        files.push(world.upload(user, name, pattern(seed as u64, size)).await);
    }
    files
}

async fn make(world: &World) -> PlanView {
    plan::make(&world.context, &RunScope::default(), None, &Origin::default()).await.unwrap()
}

async fn items(world: &World, plan: PlanId) -> Vec<Item> {
    plan::items(&world.context, plan, None, 1000).await.unwrap().0
}

async fn request(world: &World, plan: PlanId) -> Result<Run> {
    let scope = RunScope { plan_id: Some(plan), ..RunScope::default() };
    let new = NewRun { trigger: RunTrigger::Api, requested_by: None, tick: None, scope };
    run::request(&world.context, new, &Origin::default()).await
}

/// The message of a rejection.
async fn refusal(world: &World, plan: PlanId) -> String {
    match request(world, plan).await {
        Err(error @ Error::PlanChanged { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// All rows of all tables except plans and their audit events.
async fn everything(world: &World) -> Vec<String> {
    let tables = texts(
        &world.context.db,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' \
           AND table_name NOT IN ('plans', 'plan_items', 'audit_events') ORDER BY table_name",
    )
    .await;
    assert!(tables.iter().any(|table| table == "replicas") && tables.len() > 12, "{tables:?}");
    let mut rows = Vec::new();
    for table in tables {
        rows.extend(
            texts(&world.context.db, &format!("SELECT '{table} ' || t::text FROM {table} t ORDER BY 1"))
                .await,
        );
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_a_run_would_do_and_changes_nothing() {
    let world = with_rules()
        .set("policy.currency", "EUR")
        .set("policy.prices.1.store", "s3")
        .set("policy.prices.1.storage", "1024")
        .set("policy.prices.1.requests", "0.005")
        .set("policy.rules.2.free_local_after", "1h")
        .build()
        .await;
    let files = upload(&world).await;
    let before = everything(&world).await;

    let view = make(&world).await;

    assert_eq!(everything(&world).await, before);
    assert_eq!((view.files, view.bytes, view.requests), (2, 55_000, 2));
    assert_eq!(view.needs, None, "no run was measured yet");
    let parts: Vec<_> = view
        .parts
        .iter()
        .map(|part| (part.group.rule.as_str(), part.class.as_str(), part.group.files))
        .collect();
    assert_eq!(parts, [("default", "STANDARD", 1), ("medium", "REDUCED_REDUNDANCY", 1)]);
    let costs: Vec<_> = view.parts.iter().map(|part| part.monthly.map(|money| money.to_string())).collect();
    assert_eq!(
        costs,
        [Some("0.0477".to_owned()), None],
        "50,000 bytes at 1024 for a GiB; no price for the class"
    );
    assert_eq!(view.sum(|part| part.monthly), None, "unknown costs are not added");
    let reasons: BTreeSet<_> = items(&world, view.plan.id)
        .await
        .into_iter()
        .map(|item| (item.filename.unwrap(), item.version.unwrap(), item.rule, item.store))
        .collect();
    let wanted = [("large", "default"), ("medium", "medium")];
    let wanted = wanted.map(|(name, rule)| (name.to_owned(), 1, rule.to_owned(), "s3".to_owned()));
    assert_eq!(reasons, wanted.into());
    assert!(world.replica("s3", &files[1]).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_charged_bytes_count_parts_and_small_objects() {
    let world = World::with("policy.rules.1.name", "ia")
        .set("policy.rules.1.storage_class", "STANDARD_IA")
        .set("policy.prices.1.store", "s3")
        .set("policy.prices.1.storage_class", "STANDARD_IA")
        .set("policy.prices.1.storage", "1")
        .build()
        .await;
    let user = world.user().await;
    let small = world.upload(user, "small", pattern(1, 1024)).await;
    let large = world.upload(user, "large", pattern(2, 1024)).await;
    // 20 parts of 32 MiB and a small one.
    let size = 20 * 32 * 1024 * 1024 + 1;
    execute(&world.context.db, &format!("UPDATE objects SET size = {size} WHERE id = '{}'", large.object_id))
        .await
        .unwrap();

    let view = make(&world).await;

    assert_eq!((view.files, view.bytes), (2, size + 1024));
    assert_eq!(view.requests, 1 + 21 + 2, "{small:?}");
    // 640 MiB, one byte, and 128 KiB for the small file, as parts of a GiB.
    assert_eq!(view.parts[0].monthly.unwrap().to_string(), "0.6251");
    assert_eq!(
        view.warnings,
        [
            "STANDARD_IA to s3 by the rule \"ia\": AWS charges each of the 2 files for at least 30 days.",
            "STANDARD_IA to s3 by the rule \"ia\": 1 files are smaller than 128 KiB and are charged as 128 \
                KiB.",
        ]
    );
}

/// The copies made by a run, in the form of plan items.
async fn done(world: &World, run: &Run) -> Vec<String> {
    texts(
        &world.context.db,
        &format!(
            "SELECT concat_ws(' ', object_id, store, rule, coalesce(storage_class, '-'), priority) FROM replicas \
             WHERE run_id = '{}' ORDER BY object_id, store",
            run.id
        ),
    )
    .await
}

fn planned(items: &[Item]) -> Vec<String> {
    items
        .iter()
        .map(|item| {
            let class = item.storage_class.as_deref().unwrap_or("-");
            format!("{} {} {} {class} {}", item.object_id, item.store, item.rule, item.priority)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_executes_the_plan_with_and_without_its_id() {
    for named in [true, false] {
        let world = with_rules().build().await;
        let files = upload(&world).await;
        // One has failed before, one waits from an earlier run: the run takes over the second.
        for (file, state) in [(&files[1], "failed"), (&files[2], "queued")] {
            let sql = format!(
                "INSERT INTO replicas (object_id, store, state, rule) VALUES ('{}', 's3', '{state}', 'of-old')",
                file.object_id
            );
            execute(&world.context.db, &sql).await.unwrap();
        }
        let user = files[0].row.owner_id;
        let other = world.upload(user, "other", pattern(9, 2_000)).await;
        let view = make(&world).await;
        let wanted = planned(&items(&world, view.plan.id).await);
        assert_eq!(wanted.len(), 2, "{wanted:?}");
        let worker = world.start_worker();

        let run = if named {
            // Later files are not in the plan.
            world.upload(user, "later", pattern(10, 3_000)).await;
            let run = request(&world, view.plan.id).await.unwrap();
            world.ended(run.id).await
        } else {
            world.sync().await
        };

        worker.stop().await;
        assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 2, 2));
        assert_eq!(done(&world, &run).await, wanted);
        assert_eq!(world.stored("s3", &other).await, Some(pattern(9, 2_000).sha256()));
        if named {
            let again = refusal(&world, view.plan.id).await;
            assert!(again.contains("2 files have changed") && again.contains("is already in s3"), "{again}");
        }
        assert_invariants(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_all_files_includes_the_repairs_of_a_run() {
    let world = World::new().await;
    let files = upload(&world).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;
    assert_eq!(make(&world).await.files, 0);
    let lost = format!(
        "UPDATE replicas SET state = 'lost' WHERE store = 's3' AND object_id = '{}'",
        files[0].object_id
    );
    execute(&world.context.db, &lost).await.unwrap();
    // Files in the trash are not synced, but their lost copies are repaired.
    trash::send(&world.context, files[0].row.owner_id, files[0].row.id, None, &Origin::default())
        .await
        .unwrap();

    let view = make(&world).await;

    assert_eq!((view.files, view.bytes), (1, 500));
    assert!(view.needs.is_some(), "a run was measured");
    let run = request(&world, view.plan.id).await.unwrap();
    let started = run::start_queued(&world.context).await.unwrap().unwrap();
    assert_eq!((started.id, started.files_total), (run.id, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outdated_plan_is_rejected_with_its_changes() {
    let world = with_rules().build().await;
    let files = upload(&world).await;
    let user = files[0].row.owner_id;
    let (gone, moved) = (
        world.upload(user, "gone", pattern(5, 2_000)).await,
        world.upload(user, "moved", pattern(6, 2_000)).await,
    );
    let view = make(&world).await;
    assert_eq!(view.files, 4);
    world.upload(user, "large", pattern(7, 60_000)).await;
    trash::send(&world.context, user, gone.row.id, None, &Origin::default()).await.unwrap();
    let there = format!(
        "INSERT INTO replicas (object_id, store, state, verified_at) VALUES ('{}', 's3', 'present', now())",
        moved.object_id
    );
    execute(&world.context.db, &there).await.unwrap();

    let Err(Error::PlanChanged { reason, changes }) = request(&world, view.plan.id).await else {
        panic!("it was not rejected")
    };

    assert_eq!(reason, "3 files have changed.");
    let told: BTreeSet<_> =
        changes.iter().map(|change| (change.field.clone(), change.message.as_str())).collect();
    let wanted = [
        (&files[2], "“large” has a newer version"),
        (&gone, "“gone” was deleted"),
        (&moved, "“moved” is already in s3, or in progress"),
    ];
    assert_eq!(told, wanted.map(|(file, message)| (file.row.id.to_string(), message)).into());
    assert!(run::active(&world.context).await.unwrap().is_none(), "no run was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_refused_after_a_change_of_the_rules_and_when_it_has_expired() {
    let world = with_rules().build().await;
    upload(&world).await;
    let view = make(&world).await;
    let changed = world.context_with(&[("policy.rules.1.max_size", "2kB")]);
    let scope = RunScope { plan_id: Some(view.plan.id), ..RunScope::default() };
    let new = NewRun { trigger: RunTrigger::Api, requested_by: None, tick: None, scope };
    let refused = run::request(&changed, new, &Origin::default()).await.unwrap_err().to_string();
    assert!(
        refused.contains("The rules, the stores, or the set of drained stores have changed"),
        "{refused}"
    );

    execute(&world.context.db, "UPDATE plans SET expires_at = now() - interval '1s'").await.unwrap();

    assert!(refusal(&world, view.plan.id).await.contains("It expired at"));
    reap::expired_rows(&world.context).await.unwrap();
    let left =
        texts(&world.context.db, "SELECT id::text FROM plans UNION ALL SELECT plan_id::text FROM plan_items")
            .await;
    assert!(left.is_empty(), "{left:?}");
    assert!(matches!(request(&world, view.plan.id).await, Err(Error::NotFound(Noun::Plan))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_becomes_invalid_before_its_run_starts_ends_the_run() {
    let world = with_rules().build().await;
    let files = upload(&world).await;
    let view = make(&world).await;
    let requested = request(&world, view.plan.id).await.unwrap();
    trash::send(&world.context, files[2].row.owner_id, files[2].row.id, None, &Origin::default())
        .await
        .unwrap();
    let worker = world.start_worker();

    let ended = world.ended(requested.id).await;

    worker.stop().await;
    assert_eq!((ended.status, ended.files_total), (RunStatus::Failed, 0));
    let error = ended.error.unwrap();
    assert!(error.contains("“large” was deleted"), "{error}");
    assert!(world.replica("s3", &files[1]).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_limited_like_a_run() {
    let world = World::new().await;
    let files = upload(&world).await;
    let other = world.user().await;
    world.upload(other, "other", pattern(9, 700)).await;
    let limited = async |scope: RunScope| {
        plan::make(&world.context, &scope, None, &Origin::default()).await.unwrap().bytes
    };
    assert_eq!(limited(RunScope { user_id: Some(other), ..RunScope::default() }).await, 700);
    assert_eq!(
        limited(RunScope { file_ids: Some(vec![files[1].row.id]), ..RunScope::default() }).await,
        5_000
    );
    assert_eq!(
        limited(RunScope { folder_id: Some(files[0].row.folder_id), ..RunScope::default() }).await,
        55_500
    );
}
