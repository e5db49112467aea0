//! The metadata of a provider (OpenID Connect Discovery 1.0), and the requests to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use parking_lot::RwLock;
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::super::secret_cipher::SecretCipher;
use super::attempt::{self, Attempt};
use crate::config::{AuthConfig, OidcConfig};
use crate::error::{Error, Result};
use crate::store::install_crypto;

/// Timeout of each request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 512 * 1024;
/// How long the metadata of a provider is cached.
const CACHE_TTL: Duration = Duration::from_secs(3600);
/// Minimum interval between reloads caused by an unknown key.
const MIN_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Metadata {
    /// As in its tokens.
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Url,
    token_endpoint: Url,
    /// Whether the secret is sent in the body, because the provider supports no other method.
    secret_in_body: bool,
    pub(super) keys: JwkSet,
    read: Instant,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

/// The configured providers. Cheap to clone.
#[derive(Clone)]
pub struct Providers {
    client: Client,
    cipher: SecretCipher,
    known: Arc<RwLock<HashMap<String, Arc<Metadata>>>>,
}

impl Providers {
    /// Sends no requests yet.
    ///
    /// # Errors
    /// [`Error::Internal`] if the HTTP client cannot be created.
    pub(crate) fn new(config: &AuthConfig) -> Result<Self> {
        install_crypto();
        let client = Client::builder()
            .timeout(DEADLINE)
            // Redirects are not followed: a provider could redirect requests into the internal network.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("nightferry/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Internal(format!("cannot create the HTTP client: {error}")))?;
        let cipher = SecretCipher::new(&config.secret_key, "nightferry oidc attempts 1");
        Ok(Self { client, cipher, known: Arc::default() })
    }

    /// Encrypts an attempt for the browser.
    pub(super) fn encrypt(&self, attempt: &Attempt) -> Result<String> {
        let plain = serde_json::to_vec(attempt)
            .map_err(|error| Error::Internal(format!("cannot encode an attempt: {error}")))?;
        Ok(attempt::encode(&self.cipher.encrypt(&attempt.provider, &plain)?))
    }

    /// Decrypts an attempt with the provider of this name.
    pub(super) fn decrypt(&self, name: &str, encrypted: &str) -> Option<Attempt> {
        let plain = self.cipher.decrypt(name, &attempt::decode(encrypted)?)?;
        serde_json::from_slice::<Attempt>(&plain).ok().filter(|attempt| attempt.provider == name)
    }

    /// The metadata of a provider; `again` bypasses the cache.
    pub(super) async fn metadata(
        &self,
        name: &str,
        config: &OidcConfig,
        again: bool,
    ) -> Result<Arc<Metadata>> {
        let fresh = if again { MIN_RELOAD_INTERVAL } else { CACHE_TTL };
        let known = self.known.read().get(name).cloned();
        if let Some(known) = known.filter(|known| known.read.elapsed() < fresh) {
            return Ok(known);
        }
        let metadata = Arc::new(self.discover(config).await?);
        let mut all = self.known.write();
        all.insert(name.to_owned(), metadata.clone());
        Ok(metadata)
    }

    async fn discover(&self, config: &OidcConfig) -> Result<Metadata> {
        let address = format!("{}/.well-known/openid-configuration", config.issuer);
        let found: Discovered = read(self.client.get(address).send().await.map_err(failed)?).await?;
        // Section 4.3: any other issuer would impersonate another provider.
        if found.issuer.trim_end_matches('/') != config.issuer {
            return Err(Error::Provider(format!("its issuer is {}, not {}", found.issuer, config.issuer)));
        }
        let secure = config.issuer.starts_with("https://");
        let address = |text: &str| match Url::parse(text) {
            Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && !secure) => Ok(url),
            _ => Err(Error::Provider(format!(
                "its metadata contains an invalid URL, or one without TLS: {text}"
            ))),
        };
        let keys = read(self.client.get(address(&found.jwks_uri)?).send().await.map_err(failed)?).await?;
        let methods = found.token_endpoint_auth_methods_supported.unwrap_or_default();
        let takes = |method: &str| methods.iter().any(|known| known == method);
        Ok(Metadata {
            issuer: found.issuer,
            authorization_endpoint: address(&found.authorization_endpoint)?,
            token_endpoint: address(&found.token_endpoint)?,
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
            keys,
            read: Instant::now(),
        })
    }

    /// Exchanges a code for an ID token (section 3.1.3).
    pub(super) async fn exchange(
        &self,
        config: &OidcConfig,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<String> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
            ("client_id", config.client_id.as_str()),
        ];
        let mut request = self.client.post(metadata.token_endpoint.clone());
        if let Some(secret) = &config.client_secret {
            let secret = secret.expose_secret();
            if metadata.secret_in_body {
                form.push(("client_secret", secret));
            } else {
                // RFC 6749 section 2.3.1 requires encoding.
                let encode = |text: &str| percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string();
                request = request.basic_auth(encode(&config.client_id), Some(encode(secret)));
            }
        }
        let response = request.form(&form).send().await.map_err(failed)?;
        if response.status() == StatusCode::BAD_REQUEST {
            return Err(Error::SignInRefused(
                "The provider does not recognize this sign-in any more. Start again.",
            ));
        }
        let tokens: Tokens = read(response).await?;
        tokens.id_token.ok_or_else(|| Error::Provider("its response has no ID token".to_owned()))
    }
}

/// All characters except the unreserved ones of RFC 3986 section 2.3.
const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T> {
    if !response.status().is_success() {
        return Err(Error::Provider(format!("it returned {} at {}", response.status(), response.url())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(Error::Provider("its response is too large".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body)
        .map_err(|error| Error::Provider(format!("its response is invalid: {error}")))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: reqwest::Error) -> Error {
    Error::Provider(format!("it is unreachable: {error}"))
}
