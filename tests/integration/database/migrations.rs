//! Migrations: complete, reversible, idempotent, and safe with several processes starting at once.

use nightferry_core::db::migrate::Others;
use nightferry_core::db::{Database, migrate};
use nightferry_core::error::ErrorCode;
use nightferry_tests::harness::{World, database};

/// The number of migrations from the one with this number on.
pub(crate) fn since(number: &str) -> usize {
    migrate::ALL.iter().skip_while(|script| !script.version().ends_with(number)).count()
}

/// Reverts the newest migrations.
pub(crate) async fn revert(db: &Database, count: usize) {
    let newest = migrate::newest(db, count).await.unwrap();
    migrate::revert(db, &newest, Others::Ignored).await.unwrap();
}

/// All parts of a schema, as sorted text.
async fn dump(db: &Database) -> Vec<String> {
    let sql = "\
        SELECT 'column ' || table_name || '.' || column_name || ' ' || udt_name || ' ' || is_nullable || ' ' || coalesce(column_default, '') AS text \
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations' \
        UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> '__diesel_schema_migrations' \
        UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
            WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conrelid::regclass::text <> '__diesel_schema_migrations' \
        UNION ALL SELECT 'enum ' || t.typname || ' ' || e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid \
        UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname NOT LIKE 'diesel_%' \
        UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal \
            AND tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace) \
        ORDER BY 1";
    database::texts(db, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_reverted_and_applied_again() {
    let world = World::new().await;
    let db = &world.context.db;
    let before = dump(db).await;
    assert!(before.iter().any(|line| line.starts_with("column replicas.lease_token")));

    // Each by itself: what follows it was reverted before.
    for script in migrate::ALL.iter().rev() {
        let with = dump(db).await;
        revert(db, 1).await;
        assert_eq!(migrate::apply_next(db).await.unwrap().unwrap().name, script.name);
        assert_eq!(dump(db).await, with, "{} is not what it was before it was reverted", script.name);
        revert(db, 1).await;
    }
    assert_eq!(dump(db).await, Vec::<String>::new(), "reverting left objects behind");
    assert_eq!(migrate::pending(db).await.unwrap().len(), migrate::ALL.len());

    let applied = migrate::apply(db).await.unwrap();
    assert_eq!(applied.len(), migrate::ALL.len());
    assert_eq!(dump(db).await, before);
    assert!(migrate::pending(db).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_do_not_migrate_twice() {
    let world = World::new().await;
    let count = migrate::ALL.len();
    revert(&world.context.db, count).await;

    let starts = (0..4).map(|_| {
        let db = world.context.db.clone();
        tokio::spawn(async move { migrate::apply(&db).await.unwrap().len() })
    });
    let applied: usize = futures_util::future::join_all(starts).await.into_iter().map(Result::unwrap).sum();

    assert_eq!(applied, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_changes_and_records_nothing() {
    let world = World::new().await;
    let db = &world.context.db;
    let name = "2026-12-01-000037_postponed_work";
    // The second statement of the script that reverts it fails, then a later one of the script that applies it.
    revert(db, since("000037") - 1).await;
    database::execute(db, "ALTER TABLE postponed_removals RENAME TO hidden").await.unwrap();
    let before = dump(db).await;
    let newest = migrate::newest(db, 1).await.unwrap();
    let refused = migrate::revert(db, &newest, Others::Ignored).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    let reason = refused.to_string();
    assert!(reason.starts_with(&format!("The migration {name} cannot be reverted: table ")), "{reason}");
    assert_eq!(dump(db).await, before);
    assert_eq!(migrate::newest(db, 1).await.unwrap()[0].name, name);

    database::execute(db, "ALTER TABLE hidden RENAME TO postponed_removals").await.unwrap();
    revert(db, 1).await;
    database::execute(db, "CREATE TABLE eviction_places ()").await.unwrap();
    let before = dump(db).await;
    let failed = migrate::apply(db).await.unwrap_err();
    assert_eq!(failed.code(), ErrorCode::Internal);
    assert!(failed.to_string().starts_with(&format!("the migration {name} failed: ")), "{failed}");
    assert_eq!(dump(db).await, before);
    assert_eq!(migrate::pending(db).await.unwrap()[0], name);

    database::execute(db, "DROP TABLE eviction_places").await.unwrap();
    assert_eq!(migrate::apply(db).await.unwrap()[0], name);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_foreign_key_has_an_index() {
    let world = World::new().await;
    let bare = database::texts(
        &world.context.db,
        "SELECT c.conrelid::regclass || ' ' || c.conname FROM pg_constraint c WHERE c.contype = 'f' \
           AND c.connamespace = 'public'::regnamespace AND NOT EXISTS ( \
             SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL \
               AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)",
    )
    .await;
    // The first is found through the primary key of files, the second through the unique (schedule, tick).
    let allowed = ["files files_current_version_exists", "runs runs_schedule_fkey"];
    let bare: Vec<_> = bare.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(bare.is_empty(), "{bare:?}");
}

/// Replicas as written by the version before reasons were recorded: store, columns, values, and the expected reasons.
pub(crate) const OLD_REPLICAS: [(&str, &str, &str, &str); 18] = [
    ("s3", "state, rule", "'queued', 'default'", "policy -"),
    ("s3", "state, rule", "'failed', 'videos'", "policy -"),
    ("s3", "state, rule, verified_at", "'queued', 'default', now()", "repair -"),
    ("s3", "state, rule, verified_at", "'failed', 'default', now()", "repair -"),
    ("s3", "state, rule, priority", "'queued', 'videos', 1000", "drain -"),
    ("nas", "state, rule, priority", "'queued', 'drain', -1", "drain -"),
    ("nas", "state, rule, priority", "'failed', 'drain', -1", "drain -"),
    ("nas", "state, rule", "'queued', 'rebalance'", "rebalance -"),
    ("nas", "state, rule", "'queued', 'replication'", "replication -"),
    ("nas", "state, rule", "'failed', 'prefetch'", "prefetch -"),
    ("nas", "state, rule, verified_at", "'present', 'cache-on-read', now()", "cache-on-read -"),
    ("nas", "state, rule, verified_at", "'present', 'upload', now()", "- -"),
    ("nas", "state, rule, verified_at", "'lost', 'upload', now()", "- -"),
    ("nas", "state, rule, verified_at", "'evicting', 'upload', now()", "- policy"),
    ("nas", "state, rule, verified_at, moves_to", "'evicting', 'upload', now(), 's3'", "- rebalance"),
    ("old", "state, rule, verified_at", "'evicting', 'upload', now()", "- drain"),
    ("nas", "state, rule", "'evicting', 'default'", "- leftover"),
    ("nas", "state, rule", "'evicting', 'reconcile'", "- surplus"),
];

/// Inserts [`OLD_REPLICAS`], each of a separate object, with keys that start with `prefix`. The store `old` is drained.
pub(crate) async fn insert_old_replicas(world: &World, prefix: &str) {
    let user = world.user().await;
    let drained = "INSERT INTO store_drains (store, replicas_total, bytes_total) VALUES ('old', 1, 1) \
                   ON CONFLICT DO NOTHING";
    database::execute(&world.context.db, drained).await.unwrap();
    for (number, (store, columns, values, _)) in OLD_REPLICAS.iter().enumerate() {
        let leased = values.contains("evicting");
        let (lease, token) = if leased {
            (", lease_token, lease_worker, lease_until", ", gen_random_uuid(), gen_random_uuid(), now()")
        } else {
            ("", "")
        };
        let sql = format!(
            "WITH made AS ( \
                 INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
                 SELECT gen_random_uuid(), '{user}', '{prefix}' || lpad('{number}', 2, '0'), 'stored', 'text/plain', 1, \
                        decode(repeat('00', 32), 'hex'), decode(repeat('00', 8), 'hex'), 'minio', now() RETURNING id) \
             INSERT INTO replicas (object_id, store, {columns}{lease}) SELECT id, '{store}', {values}{token} FROM made"
        );
        database::execute(&world.context.db, &sql).await.unwrap();
    }
}

pub(crate) async fn reasons(world: &World, prefix: &str) -> Vec<String> {
    let sql = format!(
        "SELECT coalesce(r.copy_reason::text, '-') || ' ' || coalesce(r.evict_reason::text, '-') \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE o.key LIKE '{prefix}%' ORDER BY o.key"
    );
    database::texts(&world.context.db, &sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_the_previous_version_get_their_reasons() {
    let world = World::new().await;
    let db = &world.context.db;
    revert(db, since("000024")).await;
    insert_old_replicas(&world, "before").await;

    migrate::apply_next(db).await.unwrap();
    // A process of that version keeps running meanwhile.
    insert_old_replicas(&world, "while").await;
    migrate::apply_next(db).await.unwrap();
    let expected: Vec<&str> = OLD_REPLICAS.iter().map(|(_, _, _, reasons)| *reasons).collect();
    assert_eq!(reasons(&world, "before").await, expected);
    assert_eq!(reasons(&world, "while").await, expected);

    // Then, the updates of existing rows by that version.
    for sql in [
        "UPDATE replicas SET state = 'present', lease_token = NULL, lease_worker = NULL, lease_until = NULL \
         WHERE state = 'evicting' AND verified_at IS NOT NULL",
        "UPDATE replicas SET state = 'queued' WHERE state = 'lost'",
    ] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
    let left = "SELECT 1 FROM replicas WHERE evict_reason IS NOT NULL AND state <> 'evicting'";
    assert_eq!(database::texts(&world.context.db, left).await, Vec::<String>::new());
    assert_eq!(reasons(&world, "before").await[12], "repair -");
}
