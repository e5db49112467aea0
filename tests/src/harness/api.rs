//! The real API on a free port, and a client that acts as a user.

use nightferry_core::auth::administration::{self, Change};
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::UserRole;
use nightferry_core::services::Services;
use reqwest::{Body, Method, RequestBuilder, StatusCode, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

use super::{Pattern, World};

/// Password of every account created by tests over HTTP.
pub const PASSWORD: &str = "correct horse battery";

/// A running API.
pub struct Api {
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    client: reqwest::Client,
    shutdown: CancellationToken,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    /// Starts the API in this process.
    pub fn start_api(&self) -> Api {
        Api::of(self.services.clone())
    }
}

impl Api {
    /// Starts an API for this context, such as another instance next to the first.
    pub fn start(context: Context) -> Self {
        Self::of(Services::of(context).unwrap())
    }

    fn of(services: Services) -> Self {
        let server = nightferry_api::bind(services).unwrap();
        let base = format!("http://{}", server.address());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        // The actix server stays on the thread on which it was started.
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(server.run(stop)).unwrap();
        });
        Self { base, client: client(), shutdown }
    }
}

impl Api {
    /// An API that is already running at `http://127.0.0.1:PORT`.
    pub fn at(base: String) -> Self {
        Self { base, client: client(), shutdown: CancellationToken::new() }
    }

    /// A request without credentials.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Signs up a new user and signs in.
    pub async fn person(&self) -> Person<'_> {
        let email = format!("{}@example.org", uuid::Uuid::new_v4().simple());
        let answer = self
            .request(Method::POST, "/api/auth/signup")
            .json(&json!({ "email": email, "password": PASSWORD }));
        let (status, body) = answered(answer).await;
        assert_eq!(status, 201, "{body}");
        self.login(&email).await
    }

    /// Creates a new administrator and signs in.
    pub async fn admin(&self, world: &World) -> Person<'_> {
        let person = self.person().await;
        let id = person.id.parse().unwrap();
        administration::change(&world.context, id, Change::role(UserRole::Admin), None, &Origin::default())
            .await
            .unwrap();
        person
    }

    /// Signs in.
    pub async fn login(&self, email: &str) -> Person<'_> {
        let request = self
            .request(Method::POST, "/api/auth/login")
            .json(&json!({ "email": email, "password": PASSWORD }));
        let (status, body) = answered(request).await;
        assert_eq!(status, 200, "{body}");
        Person {
            api: self,
            id: body["user"]["id"].as_str().unwrap().to_owned(),
            email: email.to_owned(),
            token: body["access_token"].as_str().unwrap().to_owned(),
            refresh_token: body["refresh_token"].as_str().unwrap().to_owned(),
        }
    }
}

/// A client that does not follow redirects.
fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The cookies set by a response, by name: value and attributes.
pub fn cookies(response: &reqwest::Response) -> BTreeMap<String, (String, String)> {
    let set = response.headers().get_all(header::SET_COOKIE).iter();
    set.map(|cookie| {
        let (pair, attributes) = cookie.to_str().unwrap().split_once("; ").unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        (name.to_owned(), (value.to_owned(), attributes.to_owned()))
    })
    .collect()
}

/// Status and JSON body of a response; an empty body is `null`.
pub async fn answered(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {error}: {text}"))
    };
    (status, body)
}

/// Checks a problem document: status, error code, and format.
pub async fn problem(request: RequestBuilder, status: u16, code: &str) -> Value {
    let response = request.send().await.unwrap();
    let request_id =
        response.headers().get("x-request-id").expect("X-Request-Id").to_str().unwrap().to_owned();
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    let found = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["error_code"], code, "{body}");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["request_id"], request_id, "{body}");
    assert!(body["title"].is_string() && body["type"].is_string() && body["detail"].is_string(), "{body}");
    body
}

/// A signed-in user.
pub struct Person<'a> {
    api: &'a Api,
    /// Account.
    pub id: String,
    /// Email address.
    pub email: String,
    /// Access token.
    pub token: String,
    /// Refresh token.
    pub refresh_token: String,
}

impl Person<'_> {
    /// A request of this user.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.api.request(method, path).bearer_auth(&self.token)
    }

    /// Creates a personal access token; returns its secret.
    pub async fn personal_token(&self, scopes: &[&str]) -> String {
        let body = json!({ "name": "a test's", "scopes": scopes });
        let (status, made) = answered(self.request(Method::POST, "/api/auth/tokens").json(&body)).await;
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    /// GET, expects success.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = answered(self.request(Method::GET, path)).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// Uploads with the given form fields before the file.
    pub fn upload_request(
        &self,
        fields: &[(&str, &str)],
        name: &str,
        body: impl Into<Body>,
    ) -> RequestBuilder {
        let mut form = reqwest::multipart::Form::new();
        for (field, value) in fields {
            form = form.text((*field).to_owned(), (*value).to_owned());
        }
        let part = reqwest::multipart::Part::stream(body).file_name(name.to_owned());
        self.request(Method::POST, "/api/files/upload").multipart(form.part("file", part))
    }

    /// Uploads bytes; returns the File.
    pub async fn upload(&self, name: &str, pattern: Pattern) -> Value {
        let (status, file) = answered(self.upload_request(&[], name, pattern.bytes())).await;
        assert_eq!(status, 201, "{file}");
        file
    }

    /// Downloads the current version of a file.
    pub async fn download(&self, id: &Value) -> bytes::Bytes {
        let path = format!("/api/files/{}/download", id.as_str().unwrap());
        let response = self.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap()
    }
}
