//! Access control: every operation of the OpenAPI document, called by every kind of caller, with the results in
//! access.txt. An operation that is missing in either fails.

use std::collections::BTreeSet;

use nightferry_core::db::audit::Origin;
use nightferry_core::db::runs::RunScope;
use nightferry_core::tiering::{plan, run};
use nightferry_tests::harness::api::Api;
use nightferry_tests::harness::{World, pattern};
use reqwest::Method;
use serde_json::Value;

const TABLE: &str = include_str!("access.txt");

struct Row {
    method: &'static str,
    path: &'static str,
    /// By actor.
    statuses: Vec<(&'static str, u16)>,
    body: Option<&'static str>,
}

fn rows() -> Vec<Row> {
    let header = TABLE.lines().find_map(|line| line.strip_prefix("# METHOD PATH")).unwrap();
    let actors: Vec<&str> = header.split_whitespace().filter(|word| *word != "BODY").collect();
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            // The rest of the line is the body; a path has no space before a brace.
            let (front, body) = match line.find(" {") {
                Some(at) => (&line[..at], Some(&line[at + 1..])),
                None => (line.strip_suffix('-').expect(line), None),
            };
            let words: Vec<&str> = front.split_whitespace().collect();
            assert_eq!(words.len(), 2 + actors.len(), "{line}");
            let status = |(actor, word): (&&'static str, &&str)| (*actor, word.parse().expect(line));
            let statuses = actors.iter().zip(&words[2..]).map(status).collect();
            Row { method: words[0], path: words[1], statuses, body }
        })
        .collect()
}

/// Every method and path of the OpenAPI document.
fn documented() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(nightferry_api::openapi_document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
        let methods = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];
        let used = methods.iter().filter(|method| item.get(**method).is_some());
        used.map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    paths.iter().flat_map(operations).collect()
}

/// The token of a new session, because a call may end the session. Each column of the table has an arm here.
async fn token_of(actor: &str, api: &Api, world: &World) -> Option<String> {
    match actor {
        "nobody" => None,
        "stranger" => Some(api.person().await.token),
        "reader" => Some(api.person().await.personal_token(&["files:read"]).await),
        "admin" => Some(api.admin(world).await.token),
        "script" => Some(api.admin(world).await.personal_token(&["admin"]).await),
        other => panic!("the table has an unknown column {other}"),
    }
}

/// The path with the id of an item that belongs to another account.
async fn concrete(path: &str, api: &Api, world: &World) -> String {
    let path = path.replace("{name}", "nowhere").replace("{provider}", "nowhere");
    if !path.contains('{') {
        return path;
    }
    let owner = world.user().await;
    let id = if path.starts_with("/api/files/{id}") {
        world.upload(owner, "a file", pattern(1, 10)).await.row.id.to_string()
    } else if path.starts_with("/api/admin/sync/runs/{id}") {
        world.request_run(RunScope::default()).await.id.to_string()
    } else if path.starts_with("/api/admin/sync/plans/{id}") {
        let made = plan::make(&world.context, &RunScope::default(), None, &Origin::default()).await;
        made.unwrap().plan.id.to_string()
    } else if path.starts_with("/api/admin/users/{id}") {
        owner.to_string()
    } else if path.starts_with("/api/auth/sessions/{id}") {
        first(&api.person().await.get("/api/auth/sessions").await["sessions"])
    } else if path.starts_with("/api/auth/tokens/{id}") {
        let other = api.person().await;
        other.personal_token(&["files:read"]).await;
        first(&other.get("/api/auth/tokens").await["tokens"])
    } else {
        panic!("access.rs has no item for {path}")
    };
    let path = path.replace("{id}", &id);
    assert!(!path.contains('{'), "access.rs does not have all items for {path}");
    path
}

/// The id of the first item of a list.
fn first(list: &Value) -> String {
    list[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_table_has_every_operation_once_and_no_other() {
    let rows = rows();
    let listed: BTreeSet<(String, String)> =
        rows.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    assert_eq!(listed.len(), rows.len(), "an operation is listed twice in access.txt");
    let documented = documented();
    let missing: Vec<_> = documented.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&documented).collect();
    assert!(missing.is_empty() && gone.is_empty(), "access.txt: add {missing:?}, remove {gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_table_is_enforced() {
    let world = World::new().await;
    let api = world.start_api();
    let mut wrong = Vec::new();
    for row in rows() {
        for (actor, expected) in row.statuses {
            let path = concrete(row.path, &api, &world).await;
            let mut request = api.request(Method::from_bytes(row.method.as_bytes()).unwrap(), &path);
            if let Some(token) = token_of(actor, &api, &world).await {
                request = request.bearer_auth(token);
            }
            if let Some(body) = row.body {
                let unique = uuid::Uuid::new_v4().simple().to_string();
                let body = body.replace("$UNIQUE", &unique);
                request = request.header("content-type", "application/json").body(body);
            }
            let response = request.send().await.unwrap();
            let found = response.status().as_u16();
            if found != expected {
                let said = response.text().await.unwrap();
                wrong.push(format!("{} {path} as {actor}: {found}, not {expected}: {said}", row.method));
            }
            if let Some(active) = run::active(&world.context).await.unwrap() {
                run::cancel(&world.context, active.id, None, &Origin::default()).await.unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
