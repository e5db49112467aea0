//! Validation of ID tokens (OpenID Connect Core section 3.1.3.7).

use chrono::Duration;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::attempt;
use super::provider::Metadata;
use crate::auth::Accounts;
use crate::config::OidcConfig;
use crate::error::{Error, Result};

/// Maximum clock skew of the provider.
const SKEW: Duration = Duration::minutes(1);

/// The identity of a user at a provider.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    /// The provider.
    pub(super) iss: String,
    /// The subject: the permanent id of the user at the provider.
    pub(super) sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nonce: Option<String>,
    pub(super) email: Option<String>,
    email_verified: Option<Truth>,
    /// Display name.
    pub(super) name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Some providers send a string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Truth {
    Plain(bool),
    Text(String),
}

impl Claims {
    /// The email address, if the provider has verified it.
    pub(super) fn verified_email(&self) -> Option<&str> {
        let vouched = match &self.email_verified {
            Some(Truth::Plain(truth)) => *truth,
            Some(Truth::Text(text)) => text == "true",
            None => false,
        };
        self.email.as_deref().filter(|_| vouched)
    }
}

/// Checks signature, issuer, audience, times and nonce.
pub(super) async fn check(
    accounts: &Accounts,
    name: &str,
    config: &OidcConfig,
    metadata: &Metadata,
    token: &str,
    nonce: &str,
) -> Result<Claims> {
    let context = &accounts.context;
    let claims = match verify(metadata, token) {
        Err(Wrong::UnknownKey) => {
            // The provider may have rotated its keys since they were loaded.
            let again = accounts.oidc.metadata(name, config, true).await?;
            verify(&again, token)
        }
        verified => verified,
    };
    let now = context.clock.now();
    let refusal = match claims {
        Err(Wrong::UnknownKey) => "no key of the provider signed it",
        Err(Wrong::Token(reason)) => reason,
        Ok(claims) => match validation_error(&claims, config, metadata, nonce, now.timestamp()) {
            None => return Ok(claims),
            Some(reason) => reason,
        },
    };
    tracing::warn!(provider = %name, reason = refusal, "an ID token was rejected");
    Err(Error::SignInRefused("The provider's response is invalid."))
}

enum Wrong {
    UnknownKey,
    Token(&'static str),
}

fn verify(metadata: &Metadata, token: &str) -> Result<Claims, Wrong> {
    let header = decode_header(token).map_err(|_| Wrong::Token("it is not a signed token"))?;
    let mut fitting = metadata.keys.keys.iter().filter(|key| {
        let is_meant = header.kid.is_none() || key.common.key_id == header.kid;
        is_meant && key.common.public_key_use != Some(PublicKeyUse::Encryption) && allows(key, header.alg)
    });
    let (Some(key), None) = (fitting.next(), fitting.next()) else { return Err(Wrong::UnknownKey) };
    let decoding = DecodingKey::from_jwk(key).map_err(|_| Wrong::Token("its key is not supported"))?;
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    // All checked below, with the domain's clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    let verified = decode::<Claims>(token, &decoding, &validation);
    verified.map(|token| token.claims).map_err(|_| Wrong::Token("its signature or format is invalid"))
}

/// Whether a key may be used with an algorithm. Never with a symmetric one: the key is public.
fn allows(key: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let fits = match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => algorithm == ES256,
            EllipticCurve::P384 => algorithm == ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(_) => algorithm == EdDSA,
        _ => false,
    };
    let said = key.common.key_algorithm.map(|said| said.to_string());
    fits && said.is_none_or(|said| said == format!("{algorithm:?}"))
}

fn validation_error(
    claims: &Claims,
    config: &OidcConfig,
    metadata: &Metadata,
    nonce: &str,
    now: i64,
) -> Option<&'static str> {
    let (is_ours, is_only_ours) = match &claims.aud {
        Audience::One(one) => (*one == config.client_id, true),
        Audience::Several(all) => (all.contains(&config.client_id), all.len() == 1),
    };
    let party = claims.azp.as_ref().map(|party| *party == config.client_id);
    let skew = SKEW.num_seconds();
    [
        (claims.iss != metadata.issuer, "it has another issuer"),
        (!is_ours, "it has another audience"),
        (!party.unwrap_or(is_only_ours), "it was issued to another client"),
        (claims.exp.saturating_add(skew) <= now, "it has expired"),
        (claims.iat.saturating_sub(skew) > now, "it was issued in the future"),
        (!attempt::same(claims.nonce.as_deref().unwrap_or_default(), nonce), "it has another nonce"),
        (claims.sub.is_empty() || claims.sub.len() > 255, "it has no subject"),
    ]
    .into_iter()
    .find_map(|(wrong, reason)| wrong.then_some(reason))
}
