//! Accounts and sessions.

use chrono::{DateTime, Utc};
use nightferry_core::auth::session;
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::users::User;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What is needed to make an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signup {
    /// Compared without regard to case.
    #[schema(example = "ada@example.org")]
    pub(crate) email: String,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub(crate) password: SecretString,
    /// Name to show.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// A new account.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignedUp {
    /// A sentence for people.
    pub(crate) message: &'static str,
    /// The account.
    pub(crate) user_id: Uuid,
    /// The account.
    pub(crate) user: UserSummary,
}

/// Credentials.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// Email address.
    #[schema(example = "ada@example.org")]
    pub(crate) email: String,
    /// Password.
    #[schema(value_type = String, format = Password)]
    pub(crate) password: SecretString,
    /// For browsers: the tokens are set as cookies that scripts cannot read, and are not in the answer.
    #[serde(default)]
    pub(crate) cookie: bool,
}

/// A refresh token.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// As given out by the login or by the last refresh. Works once. Without one the cookie counts.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) refresh_token: Option<SecretString>,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// Goes into `Authorization: Bearer …`. Absent when it was set as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_token: Option<String>,
    /// `bearer`, or `cookie` when the tokens were set as cookies.
    pub(crate) token_type: &'static str,
    /// Life of the access token, in seconds.
    pub(crate) expires_in: i64,
    /// For the next refresh; works once. Absent when it was set as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refresh_token: Option<String>,
    /// Whose session it is.
    pub(crate) user: UserSummary,
}

impl From<&session::Session> for Tokens {
    fn from(session: &session::Session) -> Self {
        Self {
            access_token: Some(session.access_token.clone()),
            token_type: "bearer",
            expires_in: session.expires_in,
            refresh_token: Some(session.refresh_token.expose_secret().to_owned()),
            user: UserSummary::from(&session.user),
        }
    }
}

impl Tokens {
    /// The answer beside cookies, without the tokens.
    pub(crate) fn in_cookies(session: &session::Session) -> Self {
        Self { access_token: None, token_type: "cookie", refresh_token: None, ..Self::from(session) }
    }
}

/// An account in short.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserSummary {
    /// Id.
    pub(crate) id: Uuid,
    /// Email address.
    pub(crate) email: String,
    /// Name to show.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
}

impl From<&User> for UserSummary {
    fn from(user: &User) -> Self {
        Self { id: user.id.0, email: user.email.clone(), name: user.name.clone(), role: user.role.into() }
    }
}

/// The caller's own account.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    /// Id.
    pub(crate) id: Uuid,
    /// Email address.
    pub(crate) email: String,
    /// Name to show.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// Bytes granted; none: no limit.
    pub(crate) quota_bytes: Option<i64>,
    /// Bytes of all versions of all files.
    pub(crate) used_bytes: i64,
    /// When the account was made.
    pub(crate) created_at: DateTime<Utc>,
}

impl From<&User> for Me {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.0,
            email: user.email.clone(),
            name: user.name.clone(),
            role: user.role.into(),
            quota_bytes: user.quota_bytes,
            used_bytes: user.used_bytes,
            created_at: user.created_at,
        }
    }
}

/// What may be changed about the caller's own account. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeMe {
    /// Name to show.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// A new password, and the one that it takes the place of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    /// The password as it is.
    #[schema(value_type = String, format = Password)]
    pub(crate) current_password: SecretString,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub(crate) new_password: SecretString,
}

/// What an account may do.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Own files only.
    #[default]
    User,
    /// Everything.
    Admin,
}

impl From<UserRole> for Role {
    fn from(role: UserRole) -> Self {
        match role {
            UserRole::User => Self::User,
            UserRole::Admin => Self::Admin,
        }
    }
}

impl From<Role> for UserRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Admin => Self::Admin,
        }
    }
}
