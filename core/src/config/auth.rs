//! How people prove who they are, and for how long that holds.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::problem::Problems;
use super::spec::{Kind, Spec};
use super::{OidcConfig, ServerConfig, rules, words};

/// The `[auth]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The key that protects the signing keys, at least 32 bytes.
    pub secret_key: SecretString,
    /// The algorithm of new signing keys.
    pub algorithm: SigningAlgorithm,
    /// How long a new signing key is published before it signs.
    #[serde(deserialize_with = "words::duration")]
    pub key_lead: Duration,
    /// The `iss` claim of every token (RFC 7519 section 4.1.1).
    pub issuer: String,
    /// Life of an access token.
    #[serde(deserialize_with = "words::duration")]
    pub access_token_ttl: Duration,
    /// Life of a refresh token.
    #[serde(deserialize_with = "words::duration")]
    pub refresh_token_ttl: Duration,
    /// Life of a session, however often it is continued.
    #[serde(deserialize_with = "words::duration")]
    pub session_max_age: Duration,
    /// Personal access tokens that one account may have.
    pub personal_tokens_per_user: u16,
    /// Whether the session's cookies are for TLS only.
    pub cookie_secure: bool,
    /// Origins of other pages that may use the session's cookies.
    #[serde(deserialize_with = "words::list")]
    pub cookie_origins: Vec<String>,
    /// Cost of bcrypt, as a power of two of rounds.
    pub bcrypt_cost: u32,
    /// Whether people may sign up by themselves.
    pub signup: bool,
    /// Providers elsewhere with which people may sign in, by name.
    pub oidc: BTreeMap<String, OidcConfig>,
}

/// An algorithm for signing tokens (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl AuthConfig {
    pub(super) fn check(&self, server: &ServerConfig, problems: &mut Problems) {
        if !self.cookie_secure && server.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
        {
            problems.add_between(
                &["auth.cookie_secure", "server.public_url"],
                "is false although server.public_url is https, so that the cookies would also be sent in the clear",
                "set auth.cookie_secure to true",
            );
        }
        if self.access_token_ttl > self.refresh_token_ttl {
            problems.add_between(
                &["auth.access_token_ttl", "auth.refresh_token_ttl"],
                "is longer than auth.refresh_token_ttl",
                "make access tokens the short-lived ones, such as 15m and 30d",
            );
        }
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "auth.secret_key",
        Kind::Text { what: "at least 32 random bytes; make one with `openssl rand -hex 32`", rule: rules::signing_key },
        "The key that protects the signing keys, at least 32 bytes; make one with `openssl rand -hex 32`. The same for every \
         API instance; after a change all access tokens are refused and new signing keys are made.",
    )
    .secret()
    .required("what `openssl rand -hex 32` prints"),
    Spec::new(
        "auth.algorithm",
        Kind::OneOf(&["HS256", "RS256", "EdDSA"]),
        "The algorithm of new signing keys. With RS256 and EdDSA others can verify tokens by /.well-known/jwks.json. After a \
         change the old key signs for auth.key_lead longer.",
    ),
    Spec::new(
        "auth.key_lead",
        Kind::seconds(600, 30 * 86_400),
        "How long a new signing key is published before it signs, so that whoever verifies tokens knows it by then.",
    ),
    Spec::new(
        "auth.issuer",
        Kind::Text { what: "a name, such as \"nightferry\"", rule: rules::any },
        "The issuer (`iss`) that stands in every token and is expected there.",
    ),
    Spec::new(
        "auth.access_token_ttl",
        Kind::seconds(60, 86_400),
        "Life of an access token; then clients continue with their refresh token. Ending a session does not wait for it.",
    ),
    Spec::new(
        "auth.refresh_token_ttl",
        Kind::seconds(300, 366 * 86_400),
        "Life of a refresh token: how long a client may stay away and still be signed in.",
    ),
    Spec::new(
        "auth.session_max_age",
        Kind::seconds(300, 3660 * 86_400),
        "Life of a session, however often it is continued: after this everybody signs in again.",
    ),
    Spec::new(
        "auth.personal_tokens_per_user",
        Kind::count(0, 1000),
        "How many personal access tokens one account may have. 0 allows none.",
    ),
    Spec::new(
        "auth.cookie_secure",
        Kind::Switch,
        "Whether the cookies of a login with `\"cookie\": true` are for TLS only. Switch it off only to try the service over \
         plain HTTP on this machine.",
    ),
    Spec::new(
        "auth.cookie_origins",
        Kind::Text { what: "origins such as \"https://app.example.org\", a comma between", rule: rules::web_pages },
        "Origins of pages elsewhere that may use the session's cookies, and to which a sign-in may lead back.",
    )
    .optional("only the service's own pages"),
    Spec::new(
        "auth.bcrypt_cost",
        Kind::count(4, 15),
        "Cost of hashing a password with bcrypt; each step doubles it. 12 takes about 0.3 s; below 10 is for tests only.",
    ),
    Spec::new(
        "auth.signup",
        Kind::Switch,
        "Whether people may sign up by themselves. When false, an administrator creates accounts with `nightferry user \
         create`.",
    ),
];
