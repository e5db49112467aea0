//! Password guessing is limited, attackers cannot lock others out with it, and unknown accounts behave like existing
//! ones.

use diesel_async::{AsyncConnection as _, RunQueryDsl as _};
use nightferry_tests::harness::api::{Api, PASSWORD, answered, problem};
use nightferry_tests::harness::{World, WorldBuilder, database, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// A world whose clients can set their address.
fn world() -> WorldBuilder {
    World::with("server.trusted_proxies", "127.0.0.0/8")
}

fn login_from(api: &Api, network: &str, email: &str, password: &str) -> RequestBuilder {
    api.request(Method::POST, "/api/auth/login")
        .header("x-forwarded-for", network)
        .json(&json!({ "email": email, "password": password }))
}

/// Sign-ins with wrong passwords, one after the other. Returns the error codes.
async fn guess(api: &Api, network: &str, email: &str, times: usize) -> Vec<Value> {
    let mut codes = Vec::new();
    for _ in 0..times {
        let (_, body) = answered(login_from(api, network, email, "wrong password")).await;
        codes.push(body["error_code"].clone());
    }
    codes
}

fn expected(wrong: usize, limited: usize) -> Vec<Value> {
    let codes = ["INVALID_CREDENTIALS"].repeat(wrong).into_iter().chain(["RATE_LIMITED"].repeat(limited));
    codes.map(Value::from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_passwords_lock_out_an_address_with_or_without_an_account() {
    let world = world().build().await;
    let api = world.start_api();
    let ann = api.person().await;
    for email in [ann.email.as_str(), "nobody@example.org"] {
        assert_eq!(guess(&api, "192.0.2.1", email, 12).await, expected(10, 2), "{email}");
        let response = login_from(&api, "192.0.2.1", email, PASSWORD).send().await.unwrap();
        assert_eq!(response.status(), 429, "also with the correct password");
        let wait: i64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((890..=900).contains(&wait), "{wait}");
    }
    // Letter case does not make it another account, and another address may still try.
    assert_eq!(guess(&api, "192.0.2.1", &ann.email.to_uppercase(), 1).await, expected(0, 1));
    assert_eq!(answered(login_from(&api, "192.0.2.2", &ann.email, PASSWORD)).await.0, 200);
    // Another address of the same /64 network counts as the same client.
    assert_eq!(guess(&api, "2001:db8::1", &ann.email, 10).await, expected(10, 0));
    assert_eq!(guess(&api, "2001:db8::ffff:2", &ann.email, 1).await, expected(0, 1));
    assert_eq!(guess(&api, "2001:db8:0:1::1", &ann.email, 1).await, expected(1, 0));

    world.context.clock.advance(chrono::Duration::minutes(15));
    assert_eq!(answered(login_from(&api, "192.0.2.1", &ann.email, PASSWORD)).await.0, 200);
    let sql = format!(
        "SELECT count(*) FROM audit_events WHERE action = 'session.locked_out' AND target_id = '{}'",
        ann.id
    );
    eventually("it is recorded once for each address", || async {
        (database::texts(&world.context.db, &sql).await == ["2"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correct_password_resets_the_failures() {
    let world = world().build().await;
    let api = world.start_api();
    let ann = api.person().await;
    for _ in 0..3 {
        assert_eq!(guess(&api, "192.0.2.1", &ann.email, 9).await, expected(9, 0));
        assert_eq!(answered(login_from(&api, "192.0.2.1", &ann.email, PASSWORD)).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_signs_in_from_a_known_network_during_an_attack() {
    let world = world().set("limits.failed_logins_everywhere", "40").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let home = "198.51.100.7";
    assert_eq!(answered(login_from(&api, home, &ann.email, PASSWORD)).await.0, 200);
    // Many addresses, each below its own limit.
    let attack = async |email: &str| {
        let mut codes = Vec::new();
        for address in 0..6 {
            codes.extend(guess(&api, &format!("203.0.113.{address}"), email, 9).await);
        }
        codes
    };
    let codes = attack(&ann.email).await;
    assert_eq!(codes, expected(40, 14));
    assert_eq!(attack("nobody@example.org").await, codes, "as for an account that does not exist");
    // From other addresses even the correct password is rejected, so that it cannot be confirmed.
    problem(login_from(&api, "192.0.2.99", &ann.email, PASSWORD), 429, "RATE_LIMITED").await;
    // The owner's usual address is not affected.
    for _ in 0..3 {
        assert_eq!(answered(login_from(&api, home, &ann.email, PASSWORD)).await.0, 200);
        assert_eq!(guess(&api, "203.0.113.77", &ann.email, 1).await, expected(0, 1));
    }
    // Guessing from the owner's address is limited as well.
    assert_eq!(guess(&api, home, &ann.email, 11).await, expected(10, 1));
    world.context.clock.advance(chrono::Duration::minutes(16));
    assert_eq!(answered(login_from(&api, "192.0.2.99", &ann.email, PASSWORD)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_guesses_do_not_bypass_the_limit() {
    let world = world().build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let guesses = (0..40).map(|_| answered(login_from(&api, "192.0.2.1", &ann.email, "wrong password")));
    let answers = futures_util::future::join_all(guesses).await;
    let wrong = answers.iter().filter(|(_, body)| body["error_code"] == "INVALID_CREDENTIALS").count();
    assert_eq!(wrong, 10, "the other requests got no information");
    assert!(answers.iter().all(|(status, _)| *status == 401 || *status == 429));
    // Concurrent sign-ins with the correct password all succeed.
    let right = (0..20).map(|_| answered(login_from(&api, "192.0.2.2", &ann.email, PASSWORD)));
    let answers = futures_util::future::join_all(right).await;
    assert!(answers.iter().all(|(status, _)| *status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn lockouts_grow_and_a_password_reset_ends_them() {
    let world = world().set("limits.failed_logins", "2").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    for minutes in [15, 30, 60, 60] {
        assert_eq!(guess(&api, "192.0.2.1", &ann.email, 3).await, expected(2, 1), "{minutes}");
        world.context.clock.advance(chrono::Duration::minutes(minutes - 1));
        assert_eq!(guess(&api, "192.0.2.1", &ann.email, 1).await, expected(0, 1), "{minutes}");
        world.context.clock.advance(chrono::Duration::minutes(1));
    }
    assert_eq!(guess(&api, "192.0.2.1", &ann.email, 3).await, expected(2, 1));
    let id = ann.id.parse().unwrap();
    let origin = nightferry_core::db::audit::Origin::default();
    nightferry_core::auth::account::set_password(
        &world.services.accounts,
        id,
        "another one".to_owned().into(),
        &origin,
    )
    .await
    .unwrap();
    assert_eq!(answered(login_from(&api, "192.0.2.1", &ann.email, "another one")).await.0, 200);
    // Expired rows are deleted.
    guess(&api, "192.0.2.3", &ann.email, 1).await;
    world.context.clock.advance(chrono::Duration::days(200));
    nightferry_core::tiering::reap::expired_rows(&world.context).await.unwrap();
    for table in ["sign_in_failures", "known_networks"] {
        let left = database::texts(&world.context.db, &format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, ["0"], "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_headers_are_ignored_without_a_trusted_proxy() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    for address in 0..10 {
        assert_eq!(guess(&api, &format!("203.0.113.{address}"), &ann.email, 1).await, expected(1, 0));
    }
    assert_eq!(
        guess(&api, "203.0.113.200", &ann.email, 1).await,
        expected(0, 1),
        "all requests came from one address"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_guesses_from_many_networks_do_not_bypass_the_account_limit() {
    let world = world().set("limits.failed_logins_everywhere", "10").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    for email in [ann.email.as_str(), "nobody@example.org"] {
        let guesses = (0..40).map(|number| {
            answered(login_from(&api, &format!("203.0.113.{number}"), email, "wrong password"))
        });
        let answers = futures_util::future::join_all(guesses).await;
        let wrong = answers.iter().filter(|(_, body)| body["error_code"] == "INVALID_CREDENTIALS").count();
        assert_eq!(wrong, 10, "{email}: the other requests got no information");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correct_guess_started_below_the_limit_is_rejected_beyond_it() {
    let world = world().set("limits.failed_logins_everywhere", "5").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    // Locks the account, so that a client with the correct password waits where the session is created.
    let mut conn = world.context.db.conn().await.unwrap();
    let (reached, waits) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let id = ann.id.clone();
    let holding = async move {
        conn.transaction(async move |conn| {
            let hold = format!("SELECT 1 FROM users WHERE id = '{id}' FOR UPDATE");
            diesel::sql_query(hold).execute(conn).await?;
            reached.send(()).unwrap();
            released.await.unwrap();
            Ok::<_, nightferry_core::error::Error>(())
        })
        .await
        .unwrap();
    };
    let guessing = async {
        waits.await.unwrap();
        let right = answered(login_from(&api, "192.0.2.99", &ann.email, PASSWORD));
        let others = async {
            eventually("the correct password waits", || async {
                let waiting = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
                (database::texts(&world.context.db, waiting).await == ["1"]).then_some(())
            })
            .await;
            for address in 0..5 {
                let codes = guess(&api, &format!("203.0.113.{address}"), &ann.email, 1).await;
                assert_eq!(codes, expected(1, 0));
            }
            release.send(()).unwrap();
        };
        tokio::join!(right, others).0
    };
    let ((), (status, body)) = tokio::join!(holding, guessing);
    assert_eq!((status.as_u16(), &body["error_code"]), (429, &json!("RATE_LIMITED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn reaching_the_limit_does_not_wait_for_the_audit_log() {
    // Each entry that waits to be written holds a connection.
    let world = world().set("database.pool_size", "40").build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let locked_out = "SELECT count(*) FROM audit_events WHERE action = 'session.locked_out'";
    let mut conn = world.context.db.conn().await.unwrap();
    conn.transaction(async |conn| {
        diesel::sql_query("LOCK TABLE audit_events IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
        for email in [ann.email.as_str(), "nobody@example.org"] {
            assert_eq!(guess(&api, "192.0.2.1", email, 11).await, expected(10, 1), "{email}");
        }
        Ok::<_, nightferry_core::error::Error>(())
    })
    .await
    .unwrap();
    eventually("both are recorded", || async {
        (database::texts(&world.context.db, locked_out).await == ["2"]).then_some(())
    })
    .await;
}
