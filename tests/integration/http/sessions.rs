//! Sessions: listed, ended, and rejected by every instance immediately.

use chrono::Duration;
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::auth::{account, session_list};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::sessions;
use nightferry_core::ids::SessionId;
use nightferry_tests::harness::api::{Api, PASSWORD, Person, answered, problem};
use nightferry_tests::harness::{World, database};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

fn me(api: &Api, token: &str) -> RequestBuilder {
    api.request(Method::GET, "/api/auth/me").bearer_auth(token)
}

fn refresh(api: &Api, token: &str) -> RequestBuilder {
    api.request(Method::POST, "/api/auth/refresh").json(&json!({ "refresh_token": token }))
}

async fn list(person: &Person<'_>) -> Vec<Value> {
    person.get("/api/auth/sessions").await["sessions"].as_array().unwrap().clone()
}

async fn assert_ended(api: &Api, person: &Person<'_>) {
    problem(me(api, &person.token), 401, "TOKEN_REVOKED").await;
    problem(refresh(api, &person.refresh_token), 401, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ended_at_one_instance_is_immediately_rejected_by_another() {
    let world = World::new().await;
    let here = world.start_api();
    let there = Api::start(world.context_with(&[]));
    let phone = here.person().await;
    let laptop = there.login(&phone.email).await;
    let stranger = here.person().await;
    // Both instances have used both sessions, so their caches are filled.
    for api in [&here, &there] {
        for person in [&phone, &laptop] {
            assert_eq!(answered(me(api, &person.token)).await.0, 200);
        }
    }
    let sessions = list(&phone).await;
    assert_eq!(sessions.len(), 2);
    assert_eq!((&sessions[0]["current"], &sessions[1]["current"]), (&json!(false), &json!(true)));
    assert_eq!(sessions[0]["ip"], "127.0.0.1");
    let address = format!("/api/auth/sessions/{}", sessions[0]["id"].as_str().unwrap());
    problem(stranger.request(Method::DELETE, &address), 404, "NOT_FOUND").await;
    assert_eq!(answered(phone.request(Method::DELETE, &address)).await.0, 204);
    assert_ended(&there, &laptop).await;
    assert_ended(&here, &laptop).await;
    problem(phone.request(Method::DELETE, &address), 404, "NOT_FOUND").await;
    assert_eq!(list(&phone).await.len(), 1);
    assert_eq!(answered(me(&there, &phone.token)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_everywhere_ends_every_session_and_no_personal_token() {
    let world = World::new().await;
    let api = world.start_api();
    let (first, bob) = (api.person().await, api.person().await);
    let second = api.login(&first.email).await;
    let token = first.personal_token(&["files:read"]).await;
    assert_eq!(answered(first.request(Method::POST, "/api/auth/logout-all")).await.0, 204);
    assert_ended(&api, &first).await;
    assert_ended(&api, &second).await;
    assert_eq!(answered(me(&api, &token)).await.0, 200);
    assert_eq!(answered(me(&api, &bob.token)).await.0, 200);
    // The command of the operator revokes those too.
    let id = first.id.parse().unwrap();
    let third = api.login(&first.email).await;
    let ended = session_list::end_all(&world.context, id, true, None, &Origin::default()).await.unwrap();
    assert_eq!((ended.sessions, ended.tokens), (1, 1));
    assert_ended(&api, &third).await;
    problem(me(&api, &token), 401, "TOKEN_REVOKED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_the_other_sessions() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let other = api.login(&ann.email).await;
    let change = |current: &str, new: &str| {
        let body = json!({ "current_password": current, "new_password": new });
        ann.request(Method::POST, "/api/auth/password").json(&body)
    };
    problem(change("wrong password", "another battery"), 401, "INVALID_CREDENTIALS").await;
    let short = problem(change(PASSWORD, "short"), 400, "VALIDATION_FAILED").await;
    assert_eq!(short["errors"][0]["field"], "new_password");
    assert_eq!(answered(me(&api, &other.token)).await.0, 200, "nothing has ended yet");
    assert_eq!(answered(change(PASSWORD, "another battery")).await.0, 204);
    assert_ended(&api, &other).await;
    assert_eq!(answered(me(&api, &ann.token)).await.0, 200);
    assert_eq!(answered(refresh(&api, &ann.refresh_token)).await.0, 200);
    let login = |password: &str| {
        let body = json!({ "email": ann.email, "password": password });
        api.request(Method::POST, "/api/auth/login").json(&body)
    };
    problem(login(PASSWORD), 401, "INVALID_CREDENTIALS").await;
    assert_eq!(answered(login("another battery")).await.0, 200);
    let detail = "SELECT detail FROM audit_events WHERE action = 'user.password'";
    assert_eq!(database::texts(&world.context.db, detail).await, [r#"{"sessions_ended": 1}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn password_guessing_within_a_session_is_limited_like_logins() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let change = |current: &str| {
        let body = json!({ "current_password": current, "new_password": "another battery" });
        ann.request(Method::POST, "/api/auth/password").json(&body)
    };
    for _ in 0..10 {
        problem(change("wrong password"), 401, "INVALID_CREDENTIALS").await;
    }
    problem(change(PASSWORD), 429, "RATE_LIMITED").await;

    world.context.clock.advance(chrono::Duration::minutes(15));
    let again = api.login(&ann.email).await;
    let body = json!({ "current_password": PASSWORD, "new_password": "another battery" });
    let change = api.request(Method::POST, "/api/auth/password").bearer_auth(&again.token).json(&body);
    assert_eq!(answered(change).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_concurrent_password_changes_succeeds() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let changes = (0..4).map(|number| {
        let body =
            json!({ "current_password": PASSWORD, "new_password": format!("battery number {number}") });
        answered(ann.request(Method::POST, "/api/auth/password").json(&body))
    });
    let answers = futures_util::future::join_all(changes).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 204).count(), 1, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_survives_a_logout_that_races_with_refreshes() {
    let world = World::new().await;
    let here = world.start_api();
    let there = Api::start(world.context_with(&[]));
    for _ in 0..5 {
        let ann = here.person().await;
        let id = ann.id.parse().unwrap();
        let refreshes = [&here, &there, &here].map(|api| answered(refresh(api, &ann.refresh_token)));
        let operator = Origin::default();
        let ending = session_list::end_all(&world.context, id, false, None, &operator);
        let (answers, ended) = tokio::join!(futures_util::future::join_all(refreshes), ending);
        assert_eq!(ended.unwrap().sessions, 1);
        let winners: Vec<_> = answers.iter().filter(|(status, _)| status.is_success()).collect();
        assert!(winners.len() <= 1, "{answers:?}");
        for (_, tokens) in winners {
            let access = tokens["access_token"].as_str().unwrap();
            problem(me(&there, access), 401, "TOKEN_REVOKED").await;
            let next = tokens["refresh_token"].as_str().unwrap();
            problem(refresh(&there, next), 401, "TOKEN_REVOKED").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_refreshes_at_two_instances_succeeds_and_nothing_is_revoked() {
    let world = World::new().await;
    let here = world.start_api();
    let there = Api::start(world.context_with(&[]));
    let ann = here.person().await;
    let refreshes = [&here, &there, &here, &there].map(|api| answered(refresh(api, &ann.refresh_token)));
    let answers = futures_util::future::join_all(refreshes).await;
    let winners: Vec<_> = answers.iter().filter(|(status, _)| status.is_success()).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    let next = &winners[0].1;
    assert_eq!(answered(me(&there, next["access_token"].as_str().unwrap())).await.0, 200);
    assert_eq!(answered(refresh(&here, next["refresh_token"].as_str().unwrap())).await.0, 200);
    assert_eq!(list(&ann).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_at_its_maximum_age_regardless_of_refreshes() {
    let world = World::with("auth.session_max_age", "2h").set("auth.refresh_token_ttl", "50m").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let mut token = ann.refresh_token.clone();
    for _ in 0..2 {
        world.context.clock.advance(Duration::minutes(45));
        let (status, next) = answered(refresh(&api, &token)).await;
        assert_eq!(status, 200, "{next}");
        next["refresh_token"].as_str().unwrap().clone_into(&mut token);
    }
    world.context.clock.advance(Duration::minutes(31));
    problem(refresh(&api, &token), 401, "TOKEN_EXPIRED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account_is_rejected_immediately_and_a_password_reset_ends_its_sessions() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let id = ann.id.parse().unwrap();
    account::set_password(
        &world.services.accounts,
        id,
        "a new battery".to_owned().into(),
        &Origin::default(),
    )
    .await
    .unwrap();
    assert_ended(&api, &ann).await;
    let bob = api.person().await;
    let id = bob.id.parse().unwrap();
    administration::change(&world.context, id, Change::disabled(true), None, &Origin::default())
        .await
        .unwrap();
    assert_ended(&api, &bob).await;
    administration::change(&world.context, id, Change::disabled(false), None, &Origin::default())
        .await
        .unwrap();
    assert_ended(&api, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_list_is_paged_and_excludes_ended_sessions() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    for _ in 0..4 {
        api.login(&ann.email).await;
    }
    let gone = api.login(&ann.email).await;
    assert_eq!(answered(gone.request(Method::POST, "/api/auth/logout")).await.0, 204);
    let whole = list(&ann).await;
    assert_eq!(whole.len(), 5);
    let mut pages = Vec::new();
    let mut address = "/api/auth/sessions?limit=2".to_owned();
    loop {
        let page = ann.get(&address).await;
        pages.extend(page["sessions"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        address = format!("/api/auth/sessions?limit=2&cursor={cursor}");
    }
    assert_eq!(pages, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_check_reads_a_constant_number_of_rows() {
    let world = World::new().await;
    let user = world.user().await;
    let sql = format!(
        "INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at) \
         SELECT gen_random_uuid(), '{user}', now(), now(), now() + interval '1 day' FROM generate_series(1, 20000)"
    );
    for sql in [sql.as_str(), "ANALYZE sessions"] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
    let one = database::texts(&world.context.db, "SELECT id FROM sessions LIMIT 1").await.remove(0);
    let (session, now) = (SessionId(one.parse().unwrap()), world.context.clock.now());

    let (read, found) = database::rows_read(&world.context.db, async |conn| {
        sessions::user_of(conn, user, session, Uuid::now_v7(), now).await
    })
    .await;

    assert!(found.is_some_and(|(_, live)| live));
    assert!(read <= 10, "read {read} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_without_rows_remain_signed_in() {
    let world = World::new().await;
    let api = world.start_api();
    let (ann, gone) = (api.person().await, api.person().await);
    assert_eq!(answered(refresh(&api, &ann.refresh_token)).await.0, 200);
    assert_eq!(answered(gone.request(Method::POST, "/api/auth/logout")).await.0, 204);
    let before = database::texts(&world.context.db, "SELECT id FROM sessions ORDER BY id").await;
    database::execute(&world.context.db, "DELETE FROM sessions").await.unwrap();
    let up = include_str!("../../../migrations/2026-11-21-000016_sessions/up.sql");
    let fill = up.split(';').find(|statement| statement.contains("INSERT INTO sessions")).unwrap();
    database::execute(&world.context.db, fill).await.unwrap();
    assert_eq!(database::texts(&world.context.db, "SELECT id FROM sessions ORDER BY id").await, before);
    assert_eq!(answered(me(&api, &ann.token)).await.0, 200);
    assert_ended(&api, &gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_started_by_an_older_instance_continues_with_its_refresh_token() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    database::execute(&world.context.db, "DELETE FROM sessions").await.unwrap();
    problem(me(&api, &ann.token), 401, "TOKEN_REVOKED").await;
    let (status, next) = answered(refresh(&api, &ann.refresh_token)).await;
    assert_eq!(status, 200, "{next}");
    assert_eq!(answered(me(&api, next["access_token"].as_str().unwrap())).await.0, 200);
}
