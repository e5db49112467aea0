//! Signing keys: all algorithms, rotation without affecting clients, and forged tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chrono::Duration;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use nightferry_core::auth::Accounts;
use nightferry_core::auth::keys::{self, Takeover};
use nightferry_core::auth::token::Claims;
use nightferry_core::db::audit::Origin;
use nightferry_tests::harness::api::{Api, Person, answered, problem};
use nightferry_tests::harness::{World, database, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

fn me(api: &Api, token: &str) -> RequestBuilder {
    api.request(Method::GET, "/api/auth/me").bearer_auth(token)
}

async fn published(api: &Api) -> JwkSet {
    let (status, body) = answered(api.request(Method::GET, "/.well-known/jwks.json")).await;
    assert_eq!(status, 200);
    serde_json::from_value(body).unwrap()
}

fn header(token: &str) -> Header {
    jsonwebtoken::decode_header(token).unwrap()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap()
}

/// A token with any header, signed by `key` if possible.
fn forge(header: &Value, claims: &Value, key: Option<&EncodingKey>, algorithm: Algorithm) -> String {
    let encode = |value: &Value| BASE64URL.encode(serde_json::to_vec(value).unwrap());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = key
        .map(|key| jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap())
        .unwrap_or_default();
    format!("{message}.{signature}")
}

async fn world_of(algorithm: &str) -> World {
    World::with("auth.algorithm", algorithm).build().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_can_be_verified_with_the_published_keys() {
    for (name, algorithm) in [("RS256", Algorithm::RS256), ("EdDSA", Algorithm::EdDSA)] {
        let world = world_of(name).await;
        let api = world.start_api();
        let ann = api.person().await;
        assert_eq!(answered(me(&api, &ann.token)).await.0, 200);
        let header = header(&ann.token);
        assert_eq!(header.alg, algorithm);
        let set = published(&api).await;
        let public = set.find(&header.kid.unwrap()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&["nightferry"]);
        let key = DecodingKey::from_jwk(public).unwrap();
        let verified = jsonwebtoken::decode::<Claims>(&ann.token, &key, &validation).unwrap();
        assert_eq!(verified.claims.sub.to_string(), ann.id);
        let raw = answered(api.request(Method::GET, "/.well-known/jwks.json")).await.1;
        assert_eq!((&raw["keys"][0]["alg"], &raw["keys"][0]["use"]), (&json!(name), &json!("sig")));
        assert!(raw["keys"][0].get("d").is_none(), "{raw}");
    }
    let world = World::new().await;
    let api = world.start_api();
    api.person().await;
    assert!(published(&api).await.keys.is_empty(), "an HMAC key is secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_signed_by_other_keys_are_rejected() {
    for (name, algorithm) in
        [("RS256", Algorithm::RS256), ("EdDSA", Algorithm::EdDSA), ("HS256", Algorithm::HS256)]
    {
        let world = world_of(name).await;
        let api = world.start_api();
        let ann = api.person().await;
        let kid = header(&ann.token).kid.unwrap();
        let said = claims(&ann.token);
        let foreign = foreign_key(algorithm);
        let mut forged = vec![
            ("none", forge(&json!({ "alg": "none", "kid": kid }), &said, None, algorithm)),
            ("None", forge(&json!({ "alg": "None", "kid": kid }), &said, None, algorithm)),
            ("no signature", forge(&json!({ "alg": name, "kid": kid }), &said, None, algorithm)),
            ("another's key", forge(&json!({ "alg": name, "kid": kid }), &said, Some(&foreign), algorithm)),
            (
                "unknown kid",
                forge(&json!({ "alg": name, "kid": "nobody's" }), &said, Some(&foreign), algorithm),
            ),
            ("no kid", forge(&json!({ "alg": name }), &said, Some(&foreign), algorithm)),
            (
                "kid of a path",
                forge(&json!({ "alg": name, "kid": "../../dev/null" }), &said, Some(&foreign), algorithm),
            ),
        ];
        // A key contained in the token is ignored.
        if algorithm != Algorithm::HS256 {
            let own = Jwk::from_encoding_key(&foreign, algorithm).unwrap();
            let brought = json!({ "alg": name, "kid": kid, "jwk": own, "jku": "http://127.0.0.1:1/jwks" });
            forged.push(("brought along", forge(&brought, &said, Some(&foreign), algorithm)));
        }
        // The public key as an HMAC secret, in every format in which an attacker may have it.
        if let Some(public) = published(&api).await.find(&kid) {
            let jwk = serde_json::to_value(public).unwrap();
            let raw = jwk["n"].as_str().or(jwk["x"].as_str()).unwrap();
            for secret in [
                raw.as_bytes().to_vec(),
                BASE64URL.decode(raw).unwrap(),
                serde_json::to_vec(public).unwrap(),
                kid.as_bytes().to_vec(),
            ] {
                let key = EncodingKey::from_secret(&secret);
                let confused = json!({ "alg": "HS256", "kid": kid });
                forged.push(("confused", forge(&confused, &said, Some(&key), Algorithm::HS256)));
            }
        }
        let (head, rest) = ann.token.split_once('.').unwrap();
        let signature = rest.split_once('.').unwrap().1;
        let mut other = said.clone();
        other["sub"] = json!(api.person().await.id);
        let swapped = BASE64URL.encode(serde_json::to_vec(&other).unwrap());
        forged.push(("other claims", format!("{head}.{swapped}.{signature}")));
        for (what, token) in forged {
            let refused = problem(me(&api, &token), 401, "UNAUTHENTICATED").await;
            assert!(!refused["detail"].as_str().unwrap().contains("key"), "{name} {what} {refused}");
        }
        // The genuine token is valid until it expires.
        assert_eq!(answered(me(&api, &ann.token)).await.0, 200);
        world.context.clock.advance(Duration::seconds(900));
        problem(me(&api, &ann.token), 401, "TOKEN_EXPIRED").await;
    }
}

fn foreign_key(algorithm: Algorithm) -> EncodingKey {
    use aws_lc_rs::encoding::AsDer as _;
    match algorithm {
        Algorithm::HS256 => EncodingKey::from_secret(&[7; 64]),
        Algorithm::EdDSA => {
            let random = aws_lc_rs::rand::SystemRandom::new();
            let pair = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8v1(&random).unwrap();
            EncodingKey::from_ed_der(pair.as_ref())
        }
        _ => {
            let pair = aws_lc_rs::signature::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
            let der = pair.as_der().unwrap();
            let body = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
            EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_published_before_it_signs_and_the_old_one_verifies_until_its_last_token_expired() {
    let world = world_of("EdDSA").await;
    let (here, there) = (world.start_api(), Api::start(world.context_with(&[])));
    let ann = here.person().await;
    let old = header(&ann.token).kid.unwrap();
    assert_eq!(answered(me(&there, &ann.token)).await.0, 200);

    // Like `nightferry signing-key rotate`, in a separate process.
    let cli = Accounts::new(world.context_with(&[])).unwrap();
    let new = keys::rotate(&cli, Takeover::Published, &Origin::default()).await.unwrap();
    world.context.clock.advance(Duration::seconds(31));
    for api in [&here, &there] {
        assert!(published(api).await.find(&new.id).is_some(), "published");
        assert_eq!(header(&api.login(&ann.email).await.token).kid.unwrap(), old, "does not sign yet");
    }
    world.context.clock.advance(Duration::minutes(14) + Duration::seconds(20));
    let last: Person<'_> = here.login(&ann.email).await;
    assert_eq!(header(&last.token).kid.unwrap(), old);
    world.context.clock.advance(Duration::seconds(31));
    let first = there.login(&ann.email).await;
    assert_eq!(header(&first.token).kid.unwrap(), new.id);
    for api in [&here, &there] {
        for token in [&first.token, &last.token] {
            assert_eq!(answered(me(api, token)).await.0, 200);
        }
        assert!(published(api).await.find(&old).is_some());
    }
    // Its last token has expired, and so has the key.
    world.context.clock.advance(Duration::minutes(17));
    problem(me(&here, &last.token), 401, "UNAUTHENTICATED").await;
    for api in [&here, &there] {
        assert!(published(api).await.find(&old).is_none());
    }
    let acts =
        database::texts(&world.context.db, "SELECT action FROM audit_events WHERE action LIKE 'keys.%'")
            .await;
    assert_eq!(acts, ["keys.create", "keys.rotate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_key_is_replaced_immediately() {
    let world = world_of("EdDSA").await;
    let (here, there) = (world.start_api(), Api::start(world.context_with(&[])));
    let ann = here.person().await;
    keys::rotate(&world.services.accounts, Takeover::Immediate, &Origin::default()).await.unwrap();
    problem(me(&here, &ann.token), 401, "UNAUTHENTICATED").await;
    // Clients continue with their refresh tokens, and the other instance loads the key at the first token signed with
    // it.
    let refresh = json!({ "refresh_token": ann.refresh_token });
    let (status, next) = answered(here.request(Method::POST, "/api/auth/refresh").json(&refresh)).await;
    assert_eq!(status, 200, "{next}");
    world.context.clock.advance(Duration::seconds(31));
    assert_eq!(answered(me(&there, next["access_token"].as_str().unwrap())).await.0, 200);
    problem(me(&there, &ann.token), 401, "UNAUTHENTICATED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_together_agree_on_one_first_key() {
    let world = world_of("EdDSA").await;
    let apis: Vec<Api> = (0..4).map(|_| Api::start(world.context_with(&[]))).collect();
    let sets = futures_util::future::join_all(apis.iter().map(published)).await;
    let ids: std::collections::BTreeSet<_> =
        sets.iter().flat_map(|set| &set.keys).map(|key| key.common.key_id.clone().unwrap()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_algorithm_takes_over_after_it_was_published() {
    let world = World::new().await;
    let ann_token = {
        let api = world.start_api();
        api.person().await.token
    };
    let api = Api::start(world.context_with(&[("auth.algorithm", "EdDSA")]));
    // Published as soon as an instance with the new configuration has started.
    eventually("the new key is published", || async {
        (published(&api).await.keys.len() == 1).then_some(())
    })
    .await;
    let bob = api.person().await;
    assert_eq!(header(&bob.token).alg, Algorithm::HS256, "the old key still signs");
    assert_eq!(answered(me(&api, &ann_token)).await.0, 200);
    world.context.clock.advance(Duration::minutes(15));
    assert_eq!(header(&api.login(&bob.email).await.token).alg, Algorithm::EdDSA);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_stored_encrypted_and_another_secret_decrypts_none() {
    let world = world_of("EdDSA").await;
    let api = world.start_api();
    let ann = api.person().await;
    let other = world.context_with(&[("auth.secret_key", "fedcba9876543210fedcba9876543210")]);
    let other = Accounts::new(other).unwrap();
    let rows = keys::list(&other.context).await.unwrap();
    assert!(
        rows.len() == 1 && !keys::opens(&other, &rows[0]) && keys::opens(&world.services.accounts, &rows[0])
    );
    // Write access to the database is not enough to create a valid key.
    let forged = "UPDATE signing_keys SET sealed = 'x'";
    database::execute(&world.context.db, forged).await.unwrap();
    world.context.clock.advance(Duration::seconds(31));
    problem(me(&api, &ann.token), 401, "UNAUTHENTICATED").await;
    assert_eq!(answered(me(&api, &api.login(&ann.email).await.token)).await.0, 200);
}
