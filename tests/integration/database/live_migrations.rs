//! Migrations are applied while other processes serve requests: from `FIRST` on, none keeps others from a table while it
//! reads or changes rows (ADR 0039).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use nightferry_core::db::Database;
use nightferry_core::db::migrate::{self, Script, code, statements};
use nightferry_core::ids::UserId;
use nightferry_tests::harness::catalogue::FILES;
use nightferry_tests::harness::database::{execute, execute_on, rows_read, texts, texts_on};
use nightferry_tests::harness::{Catalogue, World, WorldBuilder, eventually};

use super::migrations::{OLD_REPLICAS, insert_old_replicas, reasons, revert, since};

/// The number of the first migration to which the rule applies.
const FIRST: &str = "000024";

/// Files inserted at once.
const CHUNK: i64 = 50_000;

/// A world with many files and without the migrations since `FIRST`. `NIGHTFERRY_TEST_FILES` is how many, for
/// measurements.
async fn filled() -> World {
    let world = WorldBuilder::default().with_files(Catalogue::Synced).build().await;
    let wanted = std::env::var("NIGHTFERRY_TEST_FILES").map_or(FILES, |files| files.parse().unwrap());
    let owner = world.owner_of_files().await;
    let mut there = FILES;
    while there < wanted {
        let last = wanted.min(there + CHUNK);
        Catalogue::Synced.insert(&world.context.db, owner, there + 1..=last).await;
        there = last;
    }
    revert(&world.context.db, since(FIRST)).await;
    world
}

async fn next(db: &Database) -> Option<&'static Script> {
    let pending = migrate::pending(db).await.unwrap();
    let name = pending.as_slice().first()?;
    migrate::ALL.iter().find(|script| script.name == name)
}

/// The tables that exist, and with a lock that the transaction has and that keeps writers out.
const TABLES: &str =
    "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
const LOCKED: &str = " AND oid IN (SELECT relation FROM pg_locks WHERE pid = pg_backend_pid() \
                       AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))";

/// Executes SQL in a transaction, which may look whether there is any row, and must read no more. It may keep writers from
/// one table that exists: with two, it could wait for a request that has the second and waits for the first.
async fn reads_nothing(db: &Database, script: &Script, sql: &str) {
    let tables = texts(db, TABLES).await;
    let (read, locked) = rows_read(db, async |conn| {
        conn.batch_execute(sql).await?;
        Ok(texts_on(conn, &format!("{TABLES}{LOCKED}")).await)
    })
    .await;
    let locked: Vec<&String> = locked.iter().filter(|table| tables.contains(table)).collect();
    assert!(
        locked.len() <= 1,
        "{} keeps writers from {locked:?} at once. Make it several migrations; see CONTRIBUTING.md: {sql}",
        script.name
    );
    assert!(
        read <= 1,
        "{} reads rows while it locks their table. Make it several statements, each by itself, with \
         `run_in_transaction = false` in metadata.toml; see CONTRIBUTING.md: {sql}",
        script.name
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_migration_reads_rows_or_waits_for_a_second_table_while_it_locks_one() {
    let world = filled().await;
    let db = &world.context.db;
    let mut looked_at = 0;
    while let Some(script) = next(db).await {
        let record =
            format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{}')", script.version());
        if script.in_transaction {
            reads_nothing(db, script, script.up).await;
        } else {
            for statement in statements(script.up) {
                let code = code(statement);
                if code.starts_with("ALTER ") && !code.contains(" VALIDATE CONSTRAINT ") {
                    reads_nothing(db, script, statement).await;
                } else {
                    db.conn().await.unwrap().batch_execute(statement).await.unwrap();
                }
            }
        }
        execute(db, &record).await.unwrap();
        looked_at += 1;
    }
    assert_eq!(looked_at, since(FIRST));
}

/// Whether a statement outside of a transaction can be repeated after it broke off, and blocks nobody while it runs.
fn fits(statement: &str, before: Option<&String>) -> bool {
    let any = |parts: &[&str]| parts.iter().any(|part| statement.contains(part));
    if let Some((_, index)) = statement.split_once(" INDEX CONCURRENTLY ") {
        let name = index.split(' ').next().unwrap();
        let dropped = format!("DROP INDEX CONCURRENTLY IF EXISTS {name};");
        return statement.starts_with("DROP INDEX CONCURRENTLY IF EXISTS ") || before == Some(&dropped);
    }
    if statement.starts_with("DO $$ ") {
        return any(&[" COMMIT;"]) && any(&[" SKIP LOCKED"]);
    }
    statement.starts_with("ALTER TABLE ")
        && any(&[" IF EXISTS ", " IF NOT EXISTS ", " VALIDATE CONSTRAINT ", " SET (", " RESET ("])
}

#[test]
fn statements_outside_of_a_transaction_can_be_repeated() {
    assert!(!fits("CREATE INDEX CONCURRENTLY a ON b (c);", None));
    assert!(!fits("DO $$ BEGIN UPDATE a SET b = 1; END $$;", None));
    assert!(!fits("CREATE INDEX a ON b (c);", None));
    let first = migrate::ALL.len() - since(FIRST);
    for script in migrate::ALL.iter().skip(first).filter(|script| !script.in_transaction) {
        for sql in [script.up, script.down] {
            let statements: Vec<String> = statements(sql).into_iter().map(code).collect();
            for (number, statement) in statements.iter().enumerate() {
                let before = number.checked_sub(1).map(|before| &statements[before]);
                assert!(fits(statement, before), "{}: {statement}", script.name);
            }
        }
    }
}

/// What is deleted by a `down.sql` and not recorded again is stated in it: the operator decides about that.
#[test]
fn every_migration_that_takes_a_table_away_says_what_is_lost() {
    for script in migrate::ALL {
        let drops =
            statements(script.down).into_iter().any(|statement| code(statement).contains("DROP TABLE "));
        let is_answered = script.loses().is_some() || script.down.starts_with("-- Loses nothing: ");
        assert!(
            !drops || is_answered,
            "{}: start down.sql with `-- Loses: `, or `-- Loses nothing: `",
            script.name
        );
    }
}

/// Sends what processes of the versions before and after send, until told to stop; returns how often. Fails if a statement
/// fails or takes longer than five times what a migration may wait for a lock.
async fn requests(db: Database, owner: UserId, number: i64, stop: Arc<AtomicBool>) -> u64 {
    let mut conn = db.dedicated().await.unwrap();
    conn.batch_execute("SET statement_timeout = '5s'").await.unwrap();
    let upload = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{owner}', 'live/' || gen_random_uuid(), 'stored', 'text/plain', 1, \
                    sha256('x'), substring(sha256('x') FOR 8), 'minio', now() RETURNING id) \
         INSERT INTO replicas (object_id, store, state, verified_at, rule) \
         SELECT id, 'minio', 'present', now(), 'upload' FROM made"
    );
    let object = format!(
        "SELECT v.object_id FROM files f JOIN file_versions v ON v.file_id = f.id \
         WHERE f.owner_id = '{owner}' AND f.filename = 'k{number}' AND f.deleted_at IS NULL"
    );
    let sent = [
        upload,
        format!("SELECT r.store, r.state FROM replicas r WHERE r.object_id IN ({object})"),
        format!("UPDATE replicas SET last_used_at = now() WHERE object_id IN ({object})"),
        "INSERT INTO workers (id, host, pid, version, state) \
         VALUES (gen_random_uuid(), 'live', 1, '0', 'idle')"
            .to_owned(),
        "SELECT heartbeat_at FROM workers LIMIT 10".to_owned(),
        "SELECT name FROM chores".to_owned(),
        "SELECT up FROM store_health".to_owned(),
    ];
    let mut times = 0;
    while !AtomicBool::load(&stop, Ordering::Relaxed) {
        for sql in &sent {
            diesel::sql_query(sql).execute(&mut conn).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        times += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_neither_fail_nor_wait_while_migrations_are_applied() {
    let world = filled().await;
    let db = &world.context.db;
    let given_up = "UPDATE replicas SET state = 'failed' \
                    WHERE store = 's3' AND object_id < '80000000-0000-0000-0000-000000000000'";
    execute(db, given_up).await.unwrap();
    let owner = world.owner_of_files().await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> =
        (1..=4).map(|number| tokio::spawn(requests(db.clone(), owner, number, stop.clone()))).collect();

    let applied = migrate::apply(db).await.unwrap();

    stop.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    assert_eq!(applied.len(), since(FIRST));
    let left = "SELECT count(*) FROM replicas WHERE state = 'failed' AND copy_reason IS NULL";
    assert_eq!(texts(db, left).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_lock_lets_requests_pass() {
    let world = World::new().await;
    let db = &world.context.db;
    revert(db, since("000035")).await;
    let mut holder = db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    execute_on(&mut holder, "SELECT 1 FROM replicas").await;
    let database = db.clone();
    let applying = tokio::spawn(async move { migrate::apply(&database).await.unwrap() });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'replicas'::regclass \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("the migration waits", || async { (texts(db, waiting).await != ["0"]).then_some(()) }).await;

    // It would wait behind the migration until the holder ends.
    execute(db, "SELECT 1 FROM replicas").await.unwrap();

    assert!(!applying.is_finished());
    execute_on(&mut holder, "COMMIT").await;
    assert_eq!(applying.await.unwrap().len(), since("000035"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_a_broken_migration_left_is_built_again() {
    let world = World::new().await;
    let db = &world.context.db;
    revert(db, since("000025")).await;
    insert_old_replicas(&world, "k").await;
    let broken = "CREATE UNIQUE INDEX CONCURRENTLY replicas_drained_idx ON replicas (store)";
    assert!(execute(db, broken).await.is_err(), "there is more than one replica in a store");
    let valid = "SELECT indisvalid AND NOT indisunique FROM pg_index \
                 WHERE indexrelid = 'replicas_drained_idx'::regclass";
    assert_eq!(texts(db, valid).await, ["false"]);

    migrate::apply(db).await.unwrap();

    assert_eq!(texts(db, valid).await, ["true"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_others_have_locked_are_changed_later() {
    let world = World::new().await;
    let db = &world.context.db;
    revert(db, since(FIRST)).await;
    insert_old_replicas(&world, "k").await;
    migrate::apply_next(db).await.unwrap();
    // The first of these: queued, without a reason.
    let mut holder = db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    let first = "SELECT r.object_id FROM replicas r JOIN objects o ON o.id = r.object_id \
                 WHERE o.key = 'k00' FOR UPDATE OF r";
    execute_on(&mut holder, first).await;
    let database = db.clone();
    let applying = tokio::spawn(async move { migrate::apply_next(&database).await.unwrap() });

    let expected: Vec<&str> = OLD_REPLICAS[1..].iter().map(|(_, _, _, reasons)| *reasons).collect();
    let all_others = || async { (reasons(&world, "k").await[1..] == expected).then_some(()) };
    eventually("all other rows are changed", all_others).await;
    assert_eq!(reasons(&world, "k").await[0], "- -");

    execute_on(&mut holder, "COMMIT").await;
    applying.await.unwrap();
    assert_eq!(reasons(&world, "k").await[0], OLD_REPLICAS[0].3);
}
