//! Migrations: complete, reversible, repeatable, and safe with several processes starting at once.

use nightferry_core::db::{Database, migrate};
use nightferry_tests::harness::{World, database};

/// Everything that a schema consists of, as sorted text.
async fn dump(db: &Database) -> Vec<String> {
    let sql = "\
        SELECT 'column ' || table_name || '.' || column_name || ' ' || udt_name || ' ' || is_nullable || ' ' || coalesce(column_default, '') AS text \
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations' \
        UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> '__diesel_schema_migrations' \
        UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
            WHERE connamespace = 'public'::regnamespace AND conrelid <> 0 AND conrelid::regclass::text <> '__diesel_schema_migrations' \
        UNION ALL SELECT 'enum ' || t.typname || ' ' || e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid \
        UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname NOT LIKE 'diesel_%' \
        ORDER BY 1";
    database::texts(db, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_reverted_and_applied_again() {
    let world = World::new().await;
    let db = &world.context.db;
    let before = dump(db).await;
    assert!(before.iter().any(|line| line.starts_with("column replicas.lease_token")));

    let reverted = migrate::revert_all(db).await.unwrap();
    assert_eq!(dump(db).await, Vec::<String>::new(), "reverting left something behind");
    assert_eq!(migrate::pending(db).await.unwrap().len(), reverted.len());

    let applied = migrate::apply(db).await.unwrap();
    assert_eq!(applied.len(), reverted.len());
    assert_eq!(dump(db).await, before);
    assert!(migrate::pending(db).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_do_not_migrate_twice() {
    let world = World::new().await;
    let count = migrate::revert_all(&world.context.db).await.unwrap().len();

    let starts = (0..4).map(|_| {
        let db = world.context.db.clone();
        tokio::spawn(async move { migrate::apply(&db).await.unwrap().len() })
    });
    let applied: usize = futures_util::future::join_all(starts).await.into_iter().map(Result::unwrap).sum();

    assert_eq!(applied, count);
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
    // The first is found over the primary key of files, the second over the unique (schedule, tick).
    let allowed = ["files files_current_version_exists", "runs runs_schedule_fkey"];
    let bare: Vec<_> = bare.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(bare.is_empty(), "{bare:?}");
}
