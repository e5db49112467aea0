//! Accounts linked to an identity: revoked credentials, audit events, and the operator's commands.

use jsonwebtoken::Algorithm;
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::db::audit::Origin;
use nightferry_tests::harness::api::{Api, PASSWORD, Person, answered, problem};
use nightferry_tests::harness::oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProvider};
use nightferry_tests::harness::{World, database, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::oidc::{me, sign_in, with};

/// The claims of the user who signs in.
const ANN: &str = "ann@example.org";

/// A user who signs up with the email address of another person, which is not verified.
async fn register(api: &Api) -> Person<'_> {
    let body = json!({ "email": ANN, "password": PASSWORD });
    assert_eq!(answered(api.request(Method::POST, "/api/auth/signup").json(&body)).await.0, 201);
    api.login(ANN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn linking_revokes_the_access_of_a_squatter() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = with(&provider).set("auth.oidc.home.link_by_email", "true").build().await;
    let api = world.start_api();
    let mallory = register(&api).await;
    let token = mallory.personal_token(&["files:read"]).await;
    let ann = sign_in(&api).await.unwrap();
    assert_eq!(me(&api, &ann).await["id"], mallory.id, "the account belongs to her now");

    let show = |token: &str| api.request(Method::GET, "/api/auth/me").bearer_auth(token);
    problem(show(&mallory.token), 401, "TOKEN_REVOKED").await;
    problem(show(&token), 401, "TOKEN_REVOKED").await;
    let refresh = json!({ "refresh_token": mallory.refresh_token });
    problem(api.request(Method::POST, "/api/auth/refresh").json(&refresh), 401, "TOKEN_REVOKED").await;
    let login = json!({ "email": ANN, "password": PASSWORD });
    problem(api.request(Method::POST, "/api/auth/login").json(&login), 401, "INVALID_CREDENTIALS").await;
    let detail = "SELECT detail FROM audit_events WHERE action = 'identity.link'";
    let detail: Value = serde_json::from_str(&database::texts(&world.context.db, detail).await[0]).unwrap();
    assert_eq!(
        (&detail["password_replaced"], &detail["sessions_ended"], &detail["tokens_revoked"]),
        (&json!(true), &json!(1), &json!(1)),
        "{detail}"
    );

    // This happens once. A name chosen by the user stays at later sign-ins.
    let token = {
        let cookie = format!("__Host-nightferry_access={}", ann["__Host-nightferry_access"].0);
        let body = json!({ "name": "hers", "scopes": ["files:read"] });
        let request = api.request(Method::POST, "/api/auth/tokens").json(&body).header("cookie", cookie);
        let (status, made) = answered(request.header("sec-fetch-site", "same-origin")).await;
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().unwrap().to_owned()
    };
    sign_in(&api).await.unwrap();
    assert_eq!(answered(show(&token)).await.0, 200);
    me(&api, &ann).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_of_other_providers_are_kept_only_if_they_link_by_email() {
    for believed in [false, true] {
        let (home, other) = (OidcProvider::start(Algorithm::EdDSA), OidcProvider::start(Algorithm::EdDSA));
        let world = with(&other)
            .set("auth.oidc.home.link_by_email", believed)
            .set("auth.oidc.work.issuer", home.issuer())
            .set("auth.oidc.work.client_id", CLIENT_ID)
            .set("auth.oidc.work.client_secret", CLIENT_SECRET)
            .set("auth.oidc.work.link_by_email", "true")
            .build()
            .await;
        let api = world.start_api();
        sign_in(&api).await.unwrap();
        super::oidc::sign_in_with(&api, "work").await.unwrap();
        let left = "SELECT count(*) FROM identities";
        let expected = if believed { "2" } else { "1" };
        assert_eq!(database::texts(&world.context.db, left).await, [expected], "{believed}");
        assert_eq!(sign_in(&api).await.is_ok(), believed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_sign_ins_are_recorded() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = with(&provider).build().await;
    let api = world.start_api();
    let mallory = register(&api).await;
    // An account that this provider may not sign in to; an address that it has not verified; an invalid token.
    sign_in(&api).await.unwrap_err();
    provider.behave(|it| it.claims = json!({ "email": "bob@example.org", "email_verified": false }));
    sign_in(&api).await.unwrap_err();
    provider.behave(|it| it.claims = json!({ "nonce": "another" }));
    sign_in(&api).await.unwrap_err();
    // And a disabled account.
    provider.behave(|it| it.claims = json!({ "email": "cleo@example.org" }));
    let cleo = me(&api, &sign_in(&api).await.unwrap()).await["id"].as_str().unwrap().to_owned();
    administration::change(
        &world.context,
        cleo.parse().unwrap(),
        Change::disabled(true),
        None,
        &Origin::default(),
    )
    .await
    .unwrap();
    sign_in(&api).await.unwrap_err();
    let closed = Api::start(world.context_with(&[("auth.oidc.home.signup", "false")]));
    provider.behave(|it| it.claims = json!({ "sub": "dora", "email": "dora@example.org" }));
    sign_in(&closed).await.unwrap_err();

    let sql = "SELECT target_id || ' ' || (detail->>'reason') || ' ' || (detail->>'provider') FROM audit_events \
        WHERE action = 'session.login_failed' ORDER BY 1";
    let mut expected = [
        format!("{} not_linked home", mallory.id),
        format!("{cleo} disabled home"),
        "unknown bad_id_token home".to_owned(),
        "unknown email_not_verified home".to_owned(),
        "unknown unknown_account home".to_owned(),
    ];
    expected.sort_unstable();
    eventually("all of them are recorded", || async {
        let mut written = database::texts(&world.context.db, sql).await;
        written.sort_unstable();
        (written == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signing_key_is_recorded() {
    let world = World::new().await;
    let api = world.start_api();
    api.person().await;
    let made =
        "SELECT target_type || ' ' || (detail->>'algorithm') FROM audit_events WHERE action = 'keys.create'";
    assert_eq!(database::texts(&world.context.db, made).await, ["signing_key HS256"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_who_is_linked_and_unlinks_them() {
    let provider = OidcProvider::start(Algorithm::EdDSA);
    let world = with(&provider).build().await;
    let api = world.start_api();
    let ann = sign_in(&api).await.unwrap();
    let (code, listed) = world.json_command(&["user", "identities", ANN]).await;
    let [identity] = listed["identities"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((code, &identity["provider"], &identity["email"]), (0, &json!("home"), &json!(ANN)));
    assert_eq!(identity["issuer"], provider.issuer());
    let id = identity["id"].as_str().unwrap();
    assert_eq!(id, format!("home/{}", identity["subject"].as_str().unwrap()));

    assert_eq!(world.json_command(&["user", "unlink", ANN, "home/nobody"]).await.0, 3);
    let (code, unlinked) = world.json_command(&["user", "unlink", ANN, id]).await;
    assert_eq!((code, &unlinked["unlinked"]["id"], &unlinked["sessions"]), (0, &json!(id), &json!(1)));
    let cookie = format!("__Host-nightferry_access={}", ann["__Host-nightferry_access"].0);
    problem(api.request(Method::GET, "/api/auth/me").header("cookie", cookie), 401, "TOKEN_REVOKED").await;
    assert!(sign_in(&api).await.is_err(), "the account no longer belongs to them");
    assert_eq!(world.json_command(&["user", "unlink", ANN, id]).await.0, 3);
    let written = "SELECT detail->>'subject' FROM audit_events WHERE action = 'identity.unlink'";
    assert_eq!(database::texts(&world.context.db, written).await, [&id["home/".len()..]]);
}
