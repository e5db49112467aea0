//! A failover: the database accepts no writes for a while. Sessions opened meanwhile stay read-only, and are replaced.

use nightferry_core::db::Database;
use nightferry_tests::harness::api::{PASSWORD, answered, problem};
use nightferry_tests::harness::database::execute_on;
use nightferry_tests::harness::{World, eventually, pattern};
use reqwest::Method;
use serde_json::json;

/// Changes a setting of the current database, for sessions opened from then on.
fn alter(what: &str) -> String {
    format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {what}', current_database()); END $$")
}

/// Ends all other sessions.
const DISCONNECT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_sign_ins_are_unavailable_while_the_database_is_read_only_and_work_afterwards() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let file = ann.upload("before", pattern(1, 1000)).await;
    let control = Database::open(&world.context.config.database);
    let mut operator = control.conn().await.unwrap();
    execute_on(&mut operator, &alter("SET default_transaction_read_only = on")).await;
    execute_on(&mut operator, DISCONNECT).await;

    let upload = || ann.upload_request(&[], "during", pattern(2, 1000).bytes());
    let login = || {
        let credentials = json!({ "email": ann.email, "password": PASSWORD });
        api.request(Method::POST, "/api/auth/login").json(&credentials)
    };
    problem(upload(), 503, "DATABASE_UNAVAILABLE").await;
    problem(login(), 503, "DATABASE_UNAVAILABLE").await;
    let (status, ready) = answered(api.request(Method::GET, "/health/ready")).await;
    assert_eq!((status.as_u16(), ready["checks"]["database"].as_str()), (503, Some("read-only")), "{ready}");
    assert_eq!(ann.download(&file["id"]).await, pattern(1, 1000).bytes(), "reads need no writes");

    execute_on(&mut operator, &alter("RESET default_transaction_read_only")).await;
    eventually("an upload succeeds", || async { answered(upload()).await.0.is_success().then_some(()) })
        .await;
    eventually("a sign-in succeeds", || async { answered(login()).await.0.is_success().then_some(()) }).await;
    eventually("the service is ready", || async {
        answered(api.request(Method::GET, "/health/ready")).await.0.is_success().then_some(())
    })
    .await;
}
