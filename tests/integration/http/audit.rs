//! The audit log: every relevant action is recorded with its actor; the log can be read and followed, and is deleted
//! after its retention.

use std::collections::BTreeSet;

use nightferry_core::audit;
use nightferry_core::db::audit::Filter;
use nightferry_tests::harness::api::{Person, answered, problem};
use nightferry_tests::harness::{World, database, eventually, pattern};
use reqwest::Method;
use serde_json::{Value, json};

/// All events of a query, over all pages.
async fn events(admin: &Person<'_>, query: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut address = format!("/api/admin/audit?limit=3&{query}");
    loop {
        let page = admin.get(&address).await;
        seen.extend(page["events"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { return seen };
        address = format!("/api/admin/audit?limit=3&{query}&cursor={cursor}");
    }
}

fn actions(events: &[Value]) -> BTreeSet<&str> {
    events.iter().map(|event| event["action"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_actions_are_recorded_with_actor_action_target_and_origin() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let ann = api.person().await;
    let file = ann.upload("a", pattern(1, 10)).await["id"].as_str().unwrap().to_owned();
    for path in [format!("/api/files/{file}"), format!("/api/files/{file}?permanent=true")] {
        answered(ann.request(Method::DELETE, &path)).await;
    }
    let wrong = json!({ "email": ann.email, "password": "wrong password" });
    problem(api.request(Method::POST, "/api/auth/login").json(&wrong), 401, "INVALID_CREDENTIALS").await;
    let user = format!("/api/admin/users/{}", ann.id);
    for change in [
        json!({ "role": "admin", "quota_bytes": 7 }),
        json!({ "role": "user" }),
        json!({ "disabled": true }),
        json!({ "disabled": false }),
    ] {
        answered(admin.request(Method::PATCH, &user).json(&change)).await;
    }
    let (_, run) = answered(admin.request(Method::POST, "/api/admin/sync")).await;
    let run = run["run_id"].as_str().unwrap();
    answered(admin.request(Method::POST, &format!("/api/admin/sync/runs/{run}/cancel"))).await;
    let (_, plan) = answered(admin.request(Method::POST, "/api/admin/sync/plan")).await;
    let plan = plan["plan_id"].as_str().unwrap();
    let request = admin.request(Method::POST, "/api/admin/sync").json(&json!({ "plan_id": plan }));
    let (_, planned) = answered(request).await;
    let worker = world.start_worker();
    world.ended(planned["run_id"].as_str().unwrap().parse().unwrap()).await;
    worker.stop().await;

    let of_ann = events(&admin, &format!("actor={}", ann.id)).await;
    assert_eq!(
        actions(&of_ann),
        BTreeSet::from(["user.signup", "session.login", "file.trash", "file.purge"])
    );
    let purge = of_ann.iter().find(|event| event["action"] == "file.purge").unwrap();
    assert_eq!(
        (&purge["actor"]["kind"], &purge["actor"]["email"], &purge["target_type"], &purge["target_id"]),
        (&json!("user"), &json!(ann.email), &json!("file"), &json!(file))
    );
    assert_eq!((&purge["ip"], &purge["detail"]["bytes"]), (&json!("127.0.0.1"), &json!(10)));
    assert_eq!(events(&admin, &format!("actor={}", ann.email)).await, of_ann);

    let about_her = eventually("the failed sign-in is recorded", || async {
        let found = events(&admin, &format!("target_id={}&target_type=user", ann.id)).await;
        actions(&found).contains("session.login_failed").then_some(found)
    })
    .await;
    let expected =
        ["user.signup", "user.role", "user.quota", "user.disable", "user.enable", "session.login_failed"];
    assert_eq!(actions(&about_her), BTreeSet::from(expected));
    let failed = about_her.iter().find(|event| event["action"] == "session.login_failed").unwrap();
    assert_eq!(failed["actor"], json!({ "kind": "anonymous", "id": null, "email": null }));
    assert_eq!(failed["detail"]["reason"], "wrong_password");
    let role = about_her.iter().find(|event| event["action"] == "user.role").unwrap();
    assert_eq!(
        (&role["actor"]["id"], &role["detail"]),
        (&json!(admin.id), &json!({ "from": "admin", "to": "user" }))
    );

    let of_runs = events(&admin, "action=run.*").await;
    assert_eq!(actions(&of_runs), BTreeSet::from(["run.request", "run.cancel"]));
    let of_plans = events(&admin, &format!("target_id={plan}")).await;
    assert_eq!(actions(&of_plans), BTreeSet::from(["plan.make", "plan.execute"]));

    let whole = events(&admin, "").await;
    let times: Vec<&str> = whole.iter().map(|event| event["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let since = times[times.len() / 2];
    let new = events(&admin, &format!("since={since}")).await;
    let old = events(&admin, &format!("until={since}")).await;
    assert_eq!([new, old].concat(), whole);
    assert!(events(&admin, "actor=nobody@example.org").await.is_empty());
    for wrong in ["since=yesterday", "action=%25", "cursor=x", "limit=0", "who=me"] {
        let request = admin.request(Method::GET, &format!("/api/admin/audit?{wrong}"));
        assert_eq!(request.send().await.unwrap().status(), 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_of_the_cli_and_of_the_service_are_distinguished() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let ann = api.person().await;
    let run = async |arguments: &[&str]| {
        let process = world.start_process(arguments).await;
        assert_eq!(process.ended().await.code(), Some(0), "{}", process.output());
        process.stdout()
    };
    run(&["user", "quota", &ann.email, "10GiB"]).await;
    run(&["user", "promote", &ann.email]).await;
    run(&["user", "disable", &ann.email]).await;
    let shown: Value = serde_json::from_str(&run(&["--json", "user", "show", &ann.email]).await).unwrap();
    assert_eq!(
        (&shown["user"]["quota_bytes"], &shown["user"]["role"], shown["user"]["disabled_at"].is_string()),
        (&json!(10_737_418_240_u64), &json!("admin"), true)
    );
    let listed: Value =
        serde_json::from_str(&run(&["--json", "user", "list", &ann.email, "--disabled"]).await).unwrap();
    assert_eq!(listed["users"][0]["id"], json!(ann.id));
    let of_cli = events(&admin, "actor=cli").await;
    assert_eq!(actions(&of_cli), BTreeSet::from(["user.quota", "user.role", "user.disable"]));
    assert!(of_cli.iter().all(|event| event["ip"].is_null() && event["actor"]["id"].is_null()));
    assert!(of_cli[0]["user_agent"].as_str().unwrap().starts_with("nightferry-cli/"));
    // The harness created the first administrator, so the actor is the service itself, as for the creation of the first
    // key.
    let of_system = events(&admin, "actor=system").await;
    assert_eq!(actions(&of_system), BTreeSet::from(["keys.create", "user.role"]));

    let tail = run(&["--json", "audit", "tail", "--user", "cli", "--limit", "2"]).await;
    let tail: Value = serde_json::from_str(&tail).unwrap();
    assert_eq!(actions(tail["events"].as_array().unwrap()), BTreeSet::from(["user.role", "user.disable"]));
    assert_eq!((&tail["more"], &tail["events"][1]["action"]), (&json!(true), &json!("user.disable")));
    let text = run(&["audit", "tail", "--action", "user.quota"]).await;
    assert!(text.contains("cli user.quota user") && text.contains("10737418240"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_can_be_followed() {
    let world = World::new().await;
    let api = world.start_api();
    let before = api.person().await;
    let process = world
        .start_process(&["--json", "audit", "tail", "--follow", "-n", "1", "--action", "session.*"])
        .await;
    process.says("session.login").await;
    let ann = api.person().await;
    process.says(&ann.id).await;
    answered(ann.request(Method::POST, "/api/auth/logout")).await;
    process.says("session.logout").await;
    let said = process.stdout();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let actions: Vec<&str> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["session.login", "session.login", "session.logout"], "each once, in order");
    assert_eq!(lines[0]["actor"]["id"], json!(before.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_events_are_deleted_in_batches() {
    let world = World::with("audit.retention", "30d").build().await;
    let db = &world.context.db;
    world.user().await;
    let fill = "INSERT INTO audit_events (id, at, action, target_type, target_id) \
                SELECT gen_random_uuid(), now() - make_interval(days => 31), 'old', 'x', 'y' FROM generate_series(1, 12000)";
    database::execute(db, fill).await.unwrap();
    assert_eq!(audit::reap(&world.context).await.unwrap(), 12_000);
    assert_eq!(database::texts(db, "SELECT action FROM audit_events").await, ["user.create"]);
    world.context.clock.advance(chrono::Duration::days(29));
    assert_eq!(audit::reap(&world.context).await.unwrap(), 0);
    let kept = world.context_with(&[("audit.retention", "never")]);
    world.context.clock.advance(chrono::Duration::days(2));
    assert_eq!(audit::reap(&kept).await.unwrap(), 0);
    // The worker does this without a request.
    nightferry_core::tiering::reap::expired_rows(&world.context).await.unwrap();
    assert_eq!(database::texts(db, "SELECT count(*) FROM audit_events").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_action_is_not_in_the_log() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let refused = json!({ "role": "user", "quota_bytes": 1 });
    let request = admin.request(Method::PATCH, &format!("/api/admin/users/{}", admin.id));
    problem(request.json(&refused), 409, "CONFLICT").await;
    assert!(events(&admin, "action=user.quota").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_sign_ins_cannot_flood_the_audit_log() {
    let world = World::with("limits.failed_logins", "1000")
        .set("limits.failed_logins_everywhere", "100000")
        .build()
        .await;
    let api = world.start_api();
    // No more requests at once than may wait in the queue.
    for round in 0..3 {
        let guesses = (0..50).map(|number| {
            let email = format!("{round}.{number}@example.org");
            let body = json!({ "email": email, "password": "wrong password" });
            answered(api.request(Method::POST, "/api/auth/login").json(&body))
        });
        for (status, body) in futures_util::future::join_all(guesses).await {
            assert_eq!(status, 401, "{body}");
        }
    }
    let admin = api.admin(&world).await;
    // The next entry contains the number of entries that were dropped.
    let body = json!({ "email": admin.email, "password": "wrong password" });
    problem(api.request(Method::POST, "/api/auth/login").json(&body), 401, "INVALID_CREDENTIALS").await;
    let written = eventually("every failure is recorded or counted", || async {
        let written = events(&admin, "action=session.login_failed").await;
        let unwritten = |event: &Value| event["detail"]["unwritten_before"].as_u64().unwrap();
        let unwritten: u64 = written.iter().map(unwritten).sum();
        (u64::try_from(written.len()).unwrap() + unwritten == 151).then_some(written)
    })
    .await;
    assert!((31..=60).contains(&written.len()), "{}", written.len());
    let strangers = written.iter().filter(|event| event["target_id"] == "unknown").count();
    assert_eq!(strangers, written.len() - 1, "the input is not stored");
    assert!(written.iter().any(|event| event["target_id"] == json!(admin.id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_checked_by_the_domain_too() {
    let world = World::new().await;
    let filter = Filter { action: Some("a'b".to_owned()), ..Filter::default() };
    assert!(audit::page(&world.context, &filter, 10).await.is_err());
}
