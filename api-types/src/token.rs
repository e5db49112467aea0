//! Personal access tokens.

use chrono::{DateTime, Duration, Utc};
use nightferry_core::auth::permission::Scope;
use nightferry_core::auth::personal_token::{Wanted, is_live, scopes_of};
use nightferry_core::db::personal_tokens::PersonalToken;
use nightferry_core::error::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The parameters of a new personal access token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeToken {
    /// Name, 1 to 100 characters.
    #[schema(example = "nightly backup of the laptop")]
    pub name: String,
    /// Scopes: `files:read`, `files:write`, `sync`, `admin`.
    #[schema(example = json!(["files:read"]))]
    pub scopes: Vec<String>,
    /// Lifetime in seconds, at least 60; without one it is valid until it is revoked.
    #[serde(default)]
    pub expires_in: Option<u32>,
}

impl MakeToken {
    /// Converts to the domain type.
    pub fn wanted(self) -> Result<Wanted> {
        let scopes: std::result::Result<Vec<Scope>, _> =
            self.scopes.iter().map(|name| name.parse()).collect();
        let scopes = scopes.map_err(|error| Error::field("scopes", format!("{error}")))?;
        let expires_in = self.expires_in.map(|seconds| Duration::seconds(i64::from(seconds)));
        Ok(Wanted { name: self.name, scopes, expires_in })
    }
}

fn state_of(row: &PersonalToken, now: DateTime<Utc>) -> &'static str {
    match row.revoked_at {
        Some(_) => "revoked",
        None if is_live(row, now) => "active",
        None => "expired",
    }
}

view! {
    /// A personal access token, without its secret.
    #[derive(Serialize, ToSchema)]
    pub struct TokenView: new(row: &PersonalToken, now: DateTime<Utc>) {
        /// Id.
        pub id: Uuid = row.id.0,
        /// Name.
        pub name: String = row.name.clone(),
        /// Role.
        #[schema(value_type = Vec<String>)]
        pub scopes: Vec<Scope> = scopes_of(row),
        /// `active`, `expired` or `revoked`.
        #[schema(example = "active")]
        pub state: &'static str = state_of(row, now),
        /// When it was created.
        pub created_at: DateTime<Utc> = row.created_at,
        /// When it expires; null: never.
        pub expires_at: Option<DateTime<Utc>> = row.expires_at,
        /// When it was last used, exact to about ten minutes.
        pub last_used_at: Option<DateTime<Utc>> = row.last_used_at,
    }
}

/// The personal access tokens of an account.
#[derive(Serialize, ToSchema)]
pub struct TokenList {
    /// The tokens.
    pub tokens: Vec<TokenView>,
}

/// A new personal access token.
#[derive(Serialize, ToSchema)]
pub struct MadeToken {
    /// The secret, for `Authorization: Bearer …`. Returned only once.
    #[schema(example = "nf_pat_…")]
    pub token: String,
    /// The token.
    #[serde(flatten)]
    pub view: TokenView,
}

impl MadeToken {
    /// The token with its secret.
    pub fn new(secret: &SecretString, view: TokenView) -> Self {
        Self { token: secret.expose_secret().to_owned(), view }
    }
}
