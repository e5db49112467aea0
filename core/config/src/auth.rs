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
        /// be the same for all API instances. After a change, all access tokens are rejected and new signing keys are
        /// created.
        pub secret_key: SecretString,
            text("at least 32 random bytes; generate them with `openssl rand -hex 32`", validators::signing_key),
            required("the output of `openssl rand -hex 32`");
        /// The algorithm of new signing keys. With RS256 and EdDSA others can verify tokens by
        /// `/.well-known/jwks.json`. After a change the old key signs for `auth.signing_key_lead` longer.
        pub algorithm: SigningAlgorithm = "HS256";
        /// How long a new signing key is published before it signs, so that everybody who verifies tokens knows it by
        /// then.
        pub signing_key_lead: Duration = "15m", lasts("10m", "30d"), formerly("key_lead");
        /// The issuer (`iss`) written into every token and expected there.
        pub issuer: String = "nightferry", text("a name, such as \"nightferry\"", validators::any);
        /// Lifetime of an access token; clients continue with their refresh token. Ending a session takes effect at
        /// once.
        pub access_token_ttl: Duration = "15m", lasts("1m", "1d");
        /// Lifetime of a refresh token: how long a client may stay away and still be signed in.
        pub refresh_token_ttl: Duration = "30d", lasts("5m", "366d");
        /// Lifetime of a session, however often it is continued: after this everybody signs in again.
        pub session_max_age: Duration = "90d", lasts("5m", "3660d");
        /// Maximum number of personal access tokens of one account. 0 allows none.
        pub personal_tokens_per_user: u16 = 50, range(0, 1000);
        /// Whether the cookies of a login with `"cookie": true` are restricted to TLS. Disable this only for tests over
        /// plain HTTP on this machine.
        pub cookie_secure: bool = true;
        /// Origins of other sites whose pages may use the session's cookies, and to which a sign-in may lead back.
        pub cookie_origins: Vec<String>,
            text("origins such as \"https://app.example.org\", separated by commas", validators::web_pages),
            unset("only the service's own pages");
        /// Cost of hashing a password with bcrypt; each step doubles it. 12 takes about 0.3 s; values below 10 are for
        /// tests only.
        pub bcrypt_cost: u32 = 12, range(4, 15);
        /// Whether users can sign up. If false, an administrator creates accounts with `nightferry user create`.
        pub signup: bool = true;
        /// Identity providers with which people may sign in (OpenID Connect): each a section `[auth.oidc.NAME]` with a
        /// name of at most 32 characters a-z, 0-9 and hyphen. Sign-in begins at `/api/auth/oidc/NAME/start`.
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
