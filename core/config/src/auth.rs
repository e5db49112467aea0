//! Credentials and their lifetimes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::declare::settings;
use super::problem::Problems;
use super::{OidcConfig, ServerConfig, validators};
use secrecy::SecretString;

settings! {
    /// The `[auth]` section.
    pub struct AuthConfig {
        /// The key that protects the signing keys, at least 32 bytes; generate it with `openssl rand -hex 32`. It must
        /// be the same for all API instances. If it changes, all access tokens become invalid and new signing keys are
        /// created.
        pub secret_key: SecretString,
            text("at least 32 random bytes; generate them with `openssl rand -hex 32`", validators::signing_key),
            required("the output of `openssl rand -hex 32`");
        /// The algorithm of new signing keys. With RS256 and EdDSA, other services can verify tokens with the keys in
        /// `/.well-known/jwks.json`. After a change, the old key continues to sign for `auth.signing_key_lead`.
        pub algorithm: SigningAlgorithm = "HS256";
        /// How long a new signing key is published before it is used, so that all services that verify tokens have
        /// fetched it by then.
        pub signing_key_lead: Duration = "15m", lasts("10m", "30d"), formerly("key_lead");
        /// The issuer (`iss`) of access tokens.
        pub issuer: String = "nightferry", text("a name, such as \"nightferry\"", validators::any);
        /// Lifetime of an access token; clients then use their refresh token to get a new one. Revoking a session takes
        /// effect immediately.
        pub access_token_ttl: Duration = "15m", lasts("1m", "1d");
        /// Lifetime of a refresh token: the longest time for which a client can be inactive and stay signed in.
        pub refresh_token_ttl: Duration = "30d", lasts("5m", "366d");
        /// Maximum lifetime of a session, regardless of refreshes; after it, the user has to sign in again.
        pub session_max_age: Duration = "90d", lasts("5m", "3660d");
        /// Maximum number of personal access tokens per account. 0 disables them.
        pub personal_tokens_per_user: u16 = 50, range(0, 1000);
        /// Whether the cookies of a login with `"cookie": true` are restricted to TLS. Disable this only for tests over
        /// plain HTTP on the same machine.
        pub cookie_secure: bool = true;
        /// Origins of other sites whose pages may use the session cookies, and to which a sign-in may redirect.
        pub cookie_origins: Vec<String>,
            text("origins such as \"https://app.example.org\", separated by commas", validators::web_pages),
            unset("only the service's own pages");
        /// Cost factor of bcrypt; each increment doubles the time to hash a password. 12 takes about 0.3 s; values
        /// below 10 are only for tests.
        pub bcrypt_cost: u32 = 12, range(4, 15);
        /// Whether users can sign up. If false, an administrator creates accounts with `nightferry user create`.
        pub signup: bool = true;
        /// Identity providers for sign-in (OpenID Connect), each in a section `[auth.oidc.NAME]`, with a name of at
        /// most 32 characters a-z, 0-9 and hyphen. Sign-in starts at `/api/auth/oidc/NAME/start`.
        pub oidc: BTreeMap<String, OidcConfig>;
    }
}

/// An algorithm for signing tokens, by its name (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256.
    #[strum(serialize = "HS256")]
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[strum(serialize = "RS256")]
    Rs256,
    /// Ed25519 (RFC 8037).
    #[strum(serialize = "EdDSA")]
    EdDsa,
}

impl AuthConfig {
    pub(super) fn check(&self, server: &ServerConfig, problems: &mut Problems) {
        if !self.cookie_secure && server.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
        {
            problems.add_between(
                &["auth.cookie_secure", "server.public_url"],
                "is false although server.public_url is https, so that the cookies would also be sent \
                    without TLS",
                "set auth.cookie_secure to true",
            );
        }
        if self.access_token_ttl > self.refresh_token_ttl {
            problems.add_between(
                &["auth.access_token_ttl", "auth.refresh_token_ttl"],
                "is longer than auth.refresh_token_ttl",
                "access tokens should be the short-lived ones, such as 15m and 30d",
            );
        }
    }
}
