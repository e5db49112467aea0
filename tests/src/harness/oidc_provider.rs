//! An OpenID Connect provider on a free port: real HTTP, real signatures, and configurable errors.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The client id of this service at the provider.
pub const CLIENT_ID: &str = "nightferry at tests";
/// The client secret, with characters that must be encoded.
pub const CLIENT_SECRET: &str = "s3cr:et & more%";

/// The user who signs in, and the faults of the provider.
#[derive(Clone)]
pub struct Behaviour {
    /// Claims that override the correct ones; `null` removes a claim.
    pub claims: Value,
    /// Signs with an unpublished key.
    pub foreign_key: bool,
    /// Signs with HMAC, with the published key as the secret.
    pub confused: bool,
    /// Publishes another issuer.
    pub published_issuer: Option<String>,
}

struct Key {
    algorithm: Algorithm,
    encoding: EncodingKey,
    public: Jwk,
}

struct Issued {
    challenge: String,
    nonce: String,
    redirect_uri: String,
}

struct Shared {
    base: String,
    key: Mutex<Arc<Key>>,
    behaviour: Mutex<Behaviour>,
    codes: Mutex<HashMap<String, Issued>>,
}

/// An OpenID Connect provider for tests.
pub struct OidcProvider {
    shared: Arc<Shared>,
    server: actix_web::dev::ServerHandle,
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        // Sends the message without delay.
        drop(self.server.stop(false));
    }
}

impl OidcProvider {
    /// Starts a provider that signs with this algorithm: RS256 or EdDSA.
    pub fn start(algorithm: Algorithm) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let behaviour =
            Behaviour { claims: json!({}), foreign_key: false, confused: false, published_issuer: None };
        let shared = Arc::new(Shared {
            base,
            key: Mutex::new(Arc::new(key(algorithm))),
            behaviour: Mutex::new(behaviour),
            codes: Mutex::default(),
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let state = web::Data::from(shared.clone());
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(move || {
                    App::new()
                        .app_data(state.clone())
                        .route("/.well-known/openid-configuration", web::get().to(discovery))
                        .route("/keys", web::get().to(keys))
                        .route("/authorize", web::get().to(authorize))
                        .route("/token", web::post().to(token))
                })
                .workers(1)
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { shared, server: receiver.recv().unwrap() }
    }

    /// The issuer of the provider.
    pub fn issuer(&self) -> &str {
        &self.shared.base
    }

    /// Sets the user who signs in and the faults, from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    /// Replaces the signing key.
    pub fn rotate(&self, algorithm: Algorithm) {
        *self.shared.key.lock().unwrap() = Arc::new(key(algorithm));
    }
}

fn key(algorithm: Algorithm) -> Key {
    let encoding = if algorithm == Algorithm::EdDSA {
        let pair = Ed25519KeyPair::generate_pkcs8v1(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        EncodingKey::from_ed_der(pair.as_ref())
    } else {
        let der = RsaKeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
        let body = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
    };
    let mut public = Jwk::from_encoding_key(&encoding, algorithm).unwrap();
    public.common.key_id = Some(uuid::Uuid::new_v4().to_string());
    Key { algorithm, encoding, public }
}

async fn discovery(shared: web::Data<Shared>) -> HttpResponse {
    let base = &shared.base;
    let issuer = shared.behaviour.lock().unwrap().published_issuer.clone().unwrap_or_else(|| base.clone());
    HttpResponse::Ok().json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }))
}

async fn keys(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "keys": [shared.key.lock().unwrap().public] }))
}

/// Shows no sign-in page: every user has already signed in.
async fn authorize(shared: web::Data<Shared>, query: web::Query<HashMap<String, String>>) -> HttpResponse {
    let ask = |name: &str| query.get(name).cloned().unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!((ask("response_type"), ask("client_id")), ("code".to_owned(), CLIENT_ID.to_owned()));
    assert_eq!(ask("code_challenge_method"), "S256");
    assert!(ask("scope").split(' ').any(|scope| scope == "openid"));
    let code = uuid::Uuid::new_v4().to_string();
    let redirect_uri = ask("redirect_uri");
    let issued =
        Issued { challenge: ask("code_challenge"), nonce: ask("nonce"), redirect_uri: redirect_uri.clone() };
    shared.codes.lock().unwrap().insert(code.clone(), issued);
    let location = format!("{redirect_uri}?code={code}&state={}&session_state=of+its+own", ask("state"));
    HttpResponse::Found().insert_header(("location", location)).finish()
}

async fn token(
    shared: web::Data<Shared>,
    request: actix_web::HttpRequest,
    form: web::Form<HashMap<String, String>>,
) -> HttpResponse {
    let refused = |error: &str| HttpResponse::BadRequest().json(json!({ "error": error }));
    if !is_client(&request) {
        return HttpResponse::Unauthorized().json(json!({ "error": "invalid_client" }));
    }
    let given = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    // Valid for one exchange.
    let Some(issued) = shared.codes.lock().unwrap().remove(given("code")) else {
        return refused("invalid_grant");
    };
    let proof = URL_SAFE_NO_PAD.encode(Sha256::digest(given("code_verifier").as_bytes()));
    if proof != issued.challenge || given("redirect_uri") != issued.redirect_uri {
        return refused("invalid_grant");
    }
    let behaviour = shared.behaviour.lock().unwrap().clone();
    let now = chrono::Utc::now().timestamp();
    let mut claims = json!({
        "iss": shared.base, "sub": "sub of ann", "aud": CLIENT_ID, "iat": now, "exp": now + 300,
        "nonce": issued.nonce, "email": "ann@example.org", "email_verified": true, "name": "Ann",
    });
    for (name, value) in behaviour.claims.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    HttpResponse::Ok().json(json!({
        "access_token": "of no use here", "token_type": "Bearer", "id_token": sign(&shared, &behaviour, &claims),
    }))
}

fn is_client(request: &actix_web::HttpRequest) -> bool {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let decoded =
        header.and_then(|value| value.strip_prefix("Basic ")).and_then(|text| STANDARD.decode(text).ok());
    let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else { return false };
    // RFC 6749 section 2.3.1: encoded, so that a colon in a value is not a separator.
    text == "nightferry%20at%20tests:s3cr%3Aet%20%26%20more%25"
}

fn sign(shared: &Shared, behaviour: &Behaviour, claims: &Value) -> String {
    let published = shared.key.lock().unwrap().clone();
    let kid = published.public.common.key_id.clone();
    if behaviour.confused {
        let header = Header { kid, ..Header::new(Algorithm::HS256) };
        let jwk = serde_json::to_value(&published.public).unwrap();
        let raw = jwk["n"].as_str().or(jwk["x"].as_str()).unwrap();
        let secret = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(raw).unwrap());
        return jsonwebtoken::encode(&header, claims, &secret).unwrap();
    }
    let signer = if behaviour.foreign_key { Arc::new(key(published.algorithm)) } else { published };
    let header = Header { kid, ..Header::new(signer.algorithm) };
    jsonwebtoken::encode(&header, claims, &signer.encoding).unwrap()
}
