//! Sessions started by an older version: they have refresh tokens and no row yet.

use nightferry_core::auth::session_list;
use nightferry_core::db::audit::Origin;
use nightferry_tests::harness::api::{PASSWORD, answered, problem};
use nightferry_tests::harness::{World, database};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn those_sessions_end_with_all_others() {
    let world = World::new().await;
    let api = world.start_api();
    let old = api.person().await;
    let refresh =
        |token: &str| api.request(Method::POST, "/api/auth/refresh").json(&json!({ "refresh_token": token }));
    let forget = async || {
        database::execute(&world.context.db, "DELETE FROM sessions").await.unwrap();
    };
    forget().await;
    let id = old.id.parse().unwrap();
    session_list::end_all(&world.context, id, false, None, &Origin::default()).await.unwrap();
    problem(refresh(&old.refresh_token), 401, "TOKEN_REVOKED").await;

    // Also with a new password, except for the session in which it was changed.
    let old = api.login(&old.email).await;
    forget().await;
    let kept = api.login(&old.email).await;
    let change = json!({ "current_password": PASSWORD, "new_password": "correct horse battery staple" });
    let (status, _) = answered(kept.request(Method::POST, "/api/auth/password").json(&change)).await;
    assert_eq!(status, 204);
    problem(refresh(&old.refresh_token), 401, "TOKEN_REVOKED").await;
    assert_eq!(answered(refresh(&kept.refresh_token)).await.0, 200);
}
