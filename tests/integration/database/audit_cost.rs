//! The cost of a page of the audit log depends on the page size, for any filter and any number of events.

use chrono::{TimeDelta, Utc};
use nightferry_core::db::audit::{self, Filter, Position, Who};
use nightferry_core::db::enums::AuditActor;
use nightferry_core::ids::UserId;
use nightferry_tests::harness::{World, database};
use uuid::Uuid;

const EVENTS: i64 = 100_000;
const PAGE: i64 = 50;

/// Inserts one event per second, counting back from now: some of `user`, few of the CLI, very few of keys.
async fn events(world: &World, user: UserId) {
    let fill = format!(
        "INSERT INTO audit_events (id, at, actor_id, actor_kind, action, target_type, target_id) \
         SELECT gen_random_uuid(), now() - make_interval(secs => n), \
                CASE WHEN n % 10 = 0 THEN '{user}'::uuid END, \
                (CASE WHEN n % 10 = 0 THEN 'user' WHEN n % 100 = 1 THEN 'cli' ELSE 'anonymous' END)::audit_actor, \
                CASE WHEN n % 2000 = 3 THEN 'keys.rotate' ELSE 'file.verb' || (n % 50) END, \
                CASE WHEN n % 2000 = 3 THEN 'signing_key' ELSE 'file' END, (n % 40)::text \
         FROM generate_series(1, {EVENTS}) AS n"
    );
    for sql in [fill.as_str(), "ANALYZE audit_events"] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_one_page_of_rows() {
    let world = World::with("database.statement_timeout", "120s").build().await;
    let user = world.user().await;
    events(&world, user).await;
    let hours_ago = |hours| Utc::now() - TimeDelta::hours(hours);
    let action = |action: &str| Filter { action: Some(action.to_owned()), ..Filter::default() };
    let who = |who| Filter { who: Some(who), ..Filter::default() };
    for filter in [
        Filter::default(),
        who(Who::Account(user)),
        who(Who::Kind(AuditActor::Cli)),
        who(Who::Kind(AuditActor::User)),
        who(Who::Kind(AuditActor::Anonymous)),
        action("file.verb7"),
        action("file.*"),
        action("keys.*"),
        Filter { target_type: Some("file".to_owned()), ..Filter::default() },
        Filter { target_id: Some("7".to_owned()), ..Filter::default() },
        Filter { since: Some(hours_ago(9)), until: Some(hours_ago(8)), ..Filter::default() },
        Filter { before: Some(Position { at: hours_ago(10), id: Uuid::nil() }), ..Filter::default() },
    ] {
        let (read, page) =
            database::rows_read(&world.context.db, async |conn| audit::page(conn, &filter, PAGE).await).await;
        assert_eq!(page.len() as i64, PAGE, "{filter:?}");
        assert!(read <= PAGE * 20, "{filter:?} read {read} rows");
    }
    for filter in [action("nobody.*"), action("nobody.did"), who(Who::Account(UserId::new()))] {
        let (read, page) =
            database::rows_read(&world.context.db, async |conn| audit::page(conn, &filter, PAGE).await).await;
        assert!(page.is_empty() && read <= PAGE, "{filter:?} read {read} rows");
    }
}
