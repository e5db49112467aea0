//! A page of the audit log costs the size of the page, whatever is filtered and however much is kept.

use nightferry_tests::harness::{World, database};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_a_page_of_an_index() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let db = &world.context.db;
    let user = world.user().await;
    let fill = format!(
        "INSERT INTO audit_events (id, at, actor_id, actor_kind, action, target_type, target_id) \
         SELECT gen_random_uuid(), now() - make_interval(secs => n), \
                CASE WHEN n % 10 = 0 THEN '{user}'::uuid END, \
                (CASE WHEN n % 10 = 0 THEN 'user' WHEN n % 100 = 1 THEN 'cli' ELSE 'anonymous' END)::audit_actor, \
                'noun.verb' || (n % 50), 'file', (n % 40)::text \
         FROM generate_series(1, 100000) AS n"
    );
    database::execute(db, &fill).await.unwrap();
    database::execute(db, "ANALYZE audit_events").await.unwrap();
    for (filter, index) in [
        ("true".to_owned(), "audit_events_at_idx"),
        (format!("actor_id = '{user}'"), "audit_events_actor_idx"),
        ("actor_id IS NULL AND actor_kind = 'cli'".to_owned(), "audit_events_kind_idx"),
        ("action = 'noun.verb7'".to_owned(), "audit_events_action_idx"),
        ("target_id = '7'".to_owned(), "audit_events_target_idx"),
        (
            "at >= now() - interval '9 hours' AND at < now() - interval '8 hours'".to_owned(),
            "audit_events_at_idx",
        ),
        (
            "(e.at, e.id) < (now() - interval '10 hours', '00000000-0000-0000-0000-000000000000')".to_owned(),
            "audit_events_at_idx",
        ),
    ] {
        let plan = database::texts(
            db,
            &format!(
                "EXPLAIN (COSTS OFF) SELECT e.*, u.email FROM audit_events e LEFT JOIN users u ON u.id = e.actor_id \
                 WHERE {filter} ORDER BY e.at DESC, e.id DESC LIMIT 51"
            ),
        )
        .await
        .join("\n");
        assert!(plan.contains(index) && !plan.contains("Sort"), "{filter}:\n{plan}");
    }
}
