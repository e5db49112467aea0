//! How people prove who they are, and for how long that holds.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::problem::Problems;
use super::spec::{Kind, Spec};
use super::{rules, words};

/// The `[auth]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// The key that signs tokens, at least 32 bytes.
    pub secret_key: SecretString,
    /// The algorithm that signs tokens.
    pub algorithm: SigningAlgorithm,
    /// The `iss` claim of every token (RFC 7519 section 4.1.1).
    pub issuer: String,
    /// Life of an access token.
    #[serde(deserialize_with = "words::duration")]
    pub access_token_ttl: Duration,
    /// Life of a refresh token.
    #[serde(deserialize_with = "words::duration")]
    pub refresh_token_ttl: Duration,
    /// Cost of bcrypt, as a power of two of rounds.
    pub bcrypt_cost: u32,
    /// Whether people may sign up by themselves.
    pub signup: bool,
}

/// An algorithm for signing tokens (RFC 7518 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
}

impl AuthConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
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
        "The key that signs tokens, at least 32 bytes; make one with `openssl rand -hex 32`. The same for every API \
         instance; a new one signs everybody out.",
    )
    .secret()
    .required("what `openssl rand -hex 32` prints"),
    Spec::new("auth.algorithm", Kind::OneOf(&["HS256"]), "The algorithm that signs tokens."),
    Spec::new(
        "auth.issuer",
        Kind::Text { what: "a name, such as \"nightferry\"", rule: rules::any },
        "The issuer (`iss`) that stands in every token and is expected there.",
    ),
    Spec::new(
        "auth.access_token_ttl",
        Kind::seconds(60, 86_400),
        "Life of an access token. Short, because it also bounds how long a removed account can go on.",
    ),
    Spec::new(
        "auth.refresh_token_ttl",
        Kind::seconds(300, 366 * 86_400),
        "Life of a refresh token: how long a client may stay away and still be signed in.",
    ),
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
