//! Requests whose body arrives much later than their headers are authorized again.

use nightferry_core::auth::administration::{self, Change};
use nightferry_core::auth::permission::Scope;
use nightferry_core::auth::personal_token::{self, Wanted};
use nightferry_core::auth::session_list;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::UserRole;
use nightferry_core::error::Error;
use nightferry_tests::harness::api::{Api, answered};
use nightferry_tests::harness::{World, database, pattern};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request whose headers have been received by the server, but not its body.
struct Held {
    socket: TcpStream,
    body: String,
}

impl Held {
    async fn send(api: &Api, method: &str, path: &str, token: &str, body: &Value) -> Self {
        let body = body.to_string();
        let address = api.base.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        // A later request generally gets a later response, so this one has been accepted.
        for _ in 0..20 {
            let me = api.request(Method::GET, "/api/auth/me").bearer_auth(token);
            assert_eq!(answered(me).await.0, 200);
        }
        Self { socket, body }
    }

    /// Sends the body. Returns the status and the error code.
    async fn finish(mut self) -> (u16, String) {
        self.socket.write_all(self.body.as_bytes()).await.unwrap();
        let mut said = String::new();
        self.socket.read_to_string(&mut said).await.unwrap();
        let status = said.split(' ').nth(1).unwrap().parse().unwrap();
        let body = said.split("\r\n\r\n").nth(1).unwrap_or_default();
        let body = serde_json::from_str::<Value>(body).unwrap_or_default();
        (status, body["error_code"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_administrator_cannot_complete_a_started_request() {
    let world = World::new().await;
    let api = world.start_api();
    let _stays = api.admin(&world).await;
    let ann = api.admin(&world).await;
    let bob = api.person().await;
    let file = bob.upload("his", pattern(1, 10)).await;
    let file = format!("/api/files/{}", file["id"].as_str().unwrap());
    let (me, be_admin) = (format!("/api/admin/users/{}", ann.id), json!({ "role": "admin" }));
    let made = json!({ "email": "mallory@example.org", "password": "correct horse", "role": "admin" });
    let again = Held::send(&api, "PATCH", &me, &ann.token, &be_admin).await;
    let another = Held::send(&api, "POST", "/api/admin/users", &ann.token, &made).await;
    let his = Held::send(&api, "PATCH", &file, &ann.token, &json!({ "pinned": true })).await;
    administration::change(
        &world.context,
        ann.id.parse().unwrap(),
        Change::role(UserRole::User),
        None,
        &Origin::default(),
    )
    .await
    .unwrap();
    assert_eq!(again.finish().await, (403, "FORBIDDEN".to_owned()));
    assert_eq!(another.finish().await, (403, "FORBIDDEN".to_owned()));
    assert_eq!(his.finish().await, (404, "NOT_FOUND".to_owned()), "as for all other callers");
    let admins = "SELECT count(*) FROM users WHERE role = 'admin'";
    assert_eq!(database::texts(&world.context.db, admins).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_creates_no_token() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let wanted = json!({ "name": "thief", "scopes": ["files:read"] });
    let held = Held::send(&api, "POST", "/api/auth/tokens", &ann.token, &wanted).await;
    let id = ann.id.parse().unwrap();
    session_list::end_all(&world.context, id, true, None, &Origin::default()).await.unwrap();
    assert_eq!(held.finish().await, (401, "TOKEN_REVOKED".to_owned()));
    assert_eq!(database::texts(&world.context.db, "SELECT count(*) FROM personal_tokens").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_body_is_accepted_only_from_a_caller_who_is_still_authorized() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let held = Held::send(&api, "PATCH", "/api/auth/me", &ann.token, &json!({ "name": "Ann" })).await;
    assert_eq!(held.finish().await.0, 200);
    assert_eq!(ann.get("/api/auth/me").await["name"], "Ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_actor_is_checked_again_in_the_transaction_of_an_account_change() {
    let world = World::new().await;
    let api = world.start_api();
    let (_stays, ann) = (api.admin(&world).await, api.admin(&world).await);
    let id = ann.id.parse().unwrap();
    administration::change(&world.context, id, Change::role(UserRole::User), None, &Origin::default())
        .await
        .unwrap();
    let again = Change::role(UserRole::Admin);
    let refused = administration::change(&world.context, id, again, Some(id), &Origin::default()).await;
    assert!(matches!(refused, Err(Error::Forbidden(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_created_only_by_an_active_session() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let id = ann.id.parse().unwrap();
    let (sessions, _) = session_list::page(&world.context, id, None, 10).await.unwrap();
    let make = async || {
        let scopes = vec![Scope::FilesRead];
        let wanted = Wanted { name: "ann's".to_owned(), scopes, expires_in: None };
        personal_token::create(&world.context, id, wanted, Some(sessions[0].id), &Origin::default()).await
    };
    assert!(make().await.is_ok());
    session_list::end_all(&world.context, id, true, None, &Origin::default()).await.unwrap();
    assert!(matches!(make().await, Err(Error::TokenRevoked)));
}
