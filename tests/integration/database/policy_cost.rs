//! Planning with rules reads each row a few times, for any number of rules and files.

use std::time::Duration;

use nightferry_core::db::replicas::{self, Until};
use nightferry_core::db::runs::RunScope;
use nightferry_core::ids::ObjectId;
use nightferry_core::tiering::policy;
use nightferry_tests::harness::{World, database};

const FILES: i64 = 30_000;

/// Files with one version each, only in the local store.
async fn files(world: &World) {
    let user = world.user().await;
    let sql = format!(
        "WITH made AS ( \
             INSERT INTO objects (id, owner_id, key, state, content_type, size, sha256, crc64nvme, upload_store, stored_at) \
             SELECT gen_random_uuid(), '{user}', 'k' || n, 'stored', CASE WHEN n % 3 = 0 THEN 'video/mp4' ELSE 'text/plain' END, \
                    n, decode(repeat('00', 32), 'hex'), decode(repeat('00', 8), 'hex'), 'minio', \
                    now() - interval '1 day' * (n % 100) FROM generate_series(1, {FILES}) n RETURNING *), \
         files AS ( \
             INSERT INTO files (id, owner_id, folder_id, filename, original_filename, current_version, file_size, content_type, \
                                storage_location) \
             SELECT m.id, m.owner_id, d.id, m.key, m.key, 1, m.size, m.content_type, 'minio' \
             FROM made m JOIN folders d ON d.owner_id = m.owner_id AND d.parent_id IS NULL RETURNING *), \
         versions AS ( \
             INSERT INTO file_versions (file_id, number, object_id, created_by) SELECT id, 1, id, owner_id FROM files) \
         INSERT INTO replicas (object_id, store, state, verified_at, rule) \
         SELECT id, 'minio', 'present', now(), 'upload' FROM made"
    );
    database::execute(&world.context.db, &sql).await.unwrap();
    database::execute(&world.context.db, "ANALYZE").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_by_many_rules_reads_every_row_a_few_times() {
    let mut settings = World::with("database.statement_timeout", "120s");
    for number in 1..=20 {
        let key = |field: &str| format!("policy.rules.{number}.{field}");
        settings = settings
            .set(&key("name"), format!("rule-{number}"))
            .set(&key("older_than"), format!("{}d", 120 - number));
        settings = match number % 4 {
            0 => settings.set(&key("content_type"), format!("video/{number}*, image/*")),
            1 => settings.set(&key("path"), format!("/projects/{number}/**")),
            2 => settings.set(&key("owner"), format!("person-{number}@*")),
            _ => settings.set(&key("location"), "s3"),
        };
    }
    let settings =
        settings.set("policy.rules.21.name", "videos").set("policy.rules.21.content_type", "video/*");
    let world = settings.build().await;
    files(&world).await;
    let run = world.request_run(RunScope::default()).await;
    let policy = policy::of(&world.context).unwrap();
    let started = std::time::Instant::now();

    let (read, planned) = database::rows_read(&world.context.db, async |conn| {
        replicas::plan_until(conn, run.id, &policy, &RunScope::default(), Until::Now).await
    })
    .await;

    assert_eq!(planned.files, FILES);
    // Objects, versions, files and replicas, twice: for new copies and for waiting ones.
    assert!(read <= FILES * 20, "read {read} rows");
    let by_rule = database::texts(
        &world.context.db,
        "SELECT rule || ' ' || count(*) FROM replicas WHERE store = 's3' GROUP BY rule ORDER BY rule",
    )
    .await;
    assert_eq!(by_rule, ["default 20000", "videos 10000"]);
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_reads_one_batch_of_copies() {
    let world = World::with("database.statement_timeout", "120s")
        .set("policy.rules.1.name", "videos")
        .set("policy.rules.1.content_type", "video/*")
        .build()
        .await;
    files(&world).await;
    for sql in ["UPDATE replicas SET spare_since = now()", "ANALYZE"] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
    let policy = policy::of(&world.context).unwrap();

    let (read, _) = database::rows_read(&world.context.db, async |conn| {
        replicas::review(conn, &policy, ObjectId(uuid::Uuid::nil()), 20).await
    })
    .await;

    assert!(read <= 20 * 20, "read {read} rows");
}
