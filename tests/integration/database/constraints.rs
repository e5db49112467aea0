//! Constraints enforced by the database.

use nightferry_tests::harness::{World, database, pattern};

#[tokio::test(flavor = "multi_thread")]
async fn inconsistent_rows_are_rejected() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 10)).await;
    let db = &world.context.db;
    for (sql, constraint) in [
        ("UPDATE replicas SET state = 'copying'", "replicas_lease_together"),
        ("UPDATE replicas SET lease_until = now()", "replicas_lease_together"),
        ("UPDATE objects SET sha256 = NULL", "objects_stored_is_complete"),
        ("UPDATE objects SET size = -1", "objects_size_check"),
        ("UPDATE files SET current_version = 7", "files_current_version_exists"),
        ("UPDATE files SET filename = ''", "files_filename_check"),
        ("UPDATE users SET used_bytes = -1", "users_used_bytes_check"),
        (
            "INSERT INTO users (id, email, password_hash) SELECT gen_random_uuid(), upper(email), 'x' FROM users",
            "users_email_key",
        ),
        (
            "INSERT INTO folders (id, owner_id, name) SELECT gen_random_uuid(), id, '' FROM users",
            "folders_one_root_per_owner",
        ),
        (
            "INSERT INTO runs (id, trigger) SELECT gen_random_uuid(), 'api' FROM generate_series(1, 2)",
            "runs_one_active",
        ),
        ("UPDATE runs SET status = 'failed'", ""),
        ("DELETE FROM objects", "file_versions_object_id_fkey"),
    ] {
        let refused = database::execute(db, sql).await;
        if constraint.is_empty() {
            assert!(refused.is_ok(), "{sql}");
        } else {
            let error = refused.expect_err(sql).to_string();
            assert!(error.contains(constraint), "{sql}: {error}");
        }
    }
}
