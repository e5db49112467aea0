//! Personal access tokens.

use chrono::{DateTime, Duration, Utc};
use nightferry_core::auth::permission::Scope;
use nightferry_core::auth::personal_token::{Wanted, scopes_of};
use nightferry_core::db::personal_tokens::PersonalToken;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error_response::{ApiError, Result};

/// What a personal access token is wanted for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MakeToken {
    /// What to call it, 1 to 100 characters.
    #[schema(example = "nightly backup of the laptop")]
    pub(crate) name: String,
    /// What it may do: `files:read`, `files:write`, `sync`, `admin`.
    #[schema(example = json!(["files:read"]))]
    pub(crate) scopes: Vec<String>,
    /// Its life in seconds, at least 60; without one it works until it is revoked.
    #[serde(default)]
    pub(crate) expires_in: Option<u32>,
}

impl MakeToken {
    /// The same in the domain's words.
    pub(crate) fn wanted(self) -> Result<Wanted> {
        let scopes: std::result::Result<Vec<Scope>, _> =
            self.scopes.iter().map(|name| name.parse()).collect();
        let scopes = scopes.map_err(|error| ApiError::field("scopes", format!("{error}")))?;
        let expires_in = self.expires_in.map(|seconds| Duration::seconds(i64::from(seconds)));
        Ok(Wanted { name: self.name, scopes, expires_in })
    }
}

/// A personal access token, without its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenView {
    /// Id.
    pub(crate) id: Uuid,
    /// What its maker calls it.
    pub(crate) name: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub(crate) scopes: Vec<Scope>,
    /// When it was made.
    pub(crate) created_at: DateTime<Utc>,
    /// When it stops working; none: never.
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to about ten minutes.
    pub(crate) last_used_at: Option<DateTime<Utc>>,
}

impl From<PersonalToken> for TokenView {
    fn from(row: PersonalToken) -> Self {
        Self {
            id: row.id.0,
            scopes: scopes_of(&row),
            name: row.name,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        }
    }
}

/// All of somebody's personal access tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenList {
    /// The tokens.
    pub(crate) tokens: Vec<TokenView>,
}

/// A new personal access token.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeToken {
    /// The secret: goes into `Authorization: Bearer …`. It is told this once.
    #[schema(example = "nf_pat_…")]
    pub(crate) token: String,
    /// The token.
    #[serde(flatten)]
    pub(crate) view: TokenView,
}

impl MadeToken {
    /// Shows a token with its secret.
    pub(crate) fn new(secret: &SecretString, row: PersonalToken) -> Self {
        Self { token: secret.expose_secret().to_owned(), view: TokenView::from(row) }
    }
}
