//! Accounts and their sessions.

use chrono::{DateTime, Utc};
use nightferry_core::auth::account::NewAccount;
use nightferry_core::auth::{administration, identities, session};
use nightferry_core::config::AuthConfig;
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::identities::Identity;
use nightferry_core::db::sessions::SessionRow;
use nightferry_core::db::users::User;
use nightferry_core::ids::SessionId;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What is needed to make an account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signup {
    /// Compared without regard to case.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// Name to show.
    #[serde(default)]
    pub name: Option<String>,
}

/// A new account.
#[derive(Serialize, ToSchema)]
pub struct SignedUp {
    /// A sentence for people.
    pub message: &'static str,
    /// The account.
    pub user_id: Uuid,
    /// The account.
    pub user: UserSummary,
}

/// Credentials.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Email address.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// Password.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// For browsers: the tokens are set as cookies that scripts cannot read, and are not in the answer.
    #[serde(default)]
    pub cookie: bool,
}

/// A refresh token.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// As given out by the login or by the last refresh. Works once. Without one the cookie counts.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub refresh_token: Option<SecretString>,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// Goes into `Authorization: Bearer …`. Absent when it was set as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// `bearer`, or `cookie` when the tokens were set as cookies.
    pub token_type: &'static str,
    /// Life of the access token, in seconds.
    pub expires_in: i64,
    /// For the next refresh; works once. Absent when it was set as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Whose session it is.
    pub user: UserSummary,
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
    pub fn in_cookies(session: &session::Session) -> Self {
        Self { access_token: None, token_type: "cookie", refresh_token: None, ..Self::from(session) }
    }
}

/// What an account may do.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Role {
    /// Own files only.
    User,
    /// Everything.
    Admin,
}

/// An account in short.
#[derive(Serialize, ToSchema)]
pub struct UserSummary {
    /// Id.
    pub id: Uuid,
    /// Email address.
    pub email: String,
    /// Name to show.
    pub name: String,
    /// What it may do.
    #[schema(value_type = Role)]
    pub role: UserRole,
}

impl From<&User> for UserSummary {
    fn from(user: &User) -> Self {
        Self { id: user.id.0, email: user.email.clone(), name: user.name.clone(), role: user.role }
    }
}

/// The caller's own account.
#[derive(Serialize, ToSchema)]
pub struct Me {
    /// Id.
    pub id: Uuid,
    /// Email address.
    pub email: String,
    /// Name to show.
    pub name: String,
    /// What it may do.
    #[schema(value_type = Role)]
    pub role: UserRole,
    /// Bytes granted; none: no limit.
    pub quota_bytes: Option<i64>,
    /// Bytes of all versions of all files.
    pub used_bytes: i64,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
}

impl From<&User> for Me {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.0,
            email: user.email.clone(),
            name: user.name.clone(),
            role: user.role,
            quota_bytes: user.quota_bytes,
            used_bytes: user.used_bytes,
            created_at: user.created_at,
        }
    }
}

/// What may be changed about the caller's own account. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMe {
    /// Name to show.
    #[serde(default)]
    pub name: Option<String>,
}

/// A new password, and the one that it takes the place of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password as it is.
    #[schema(value_type = String, format = Password)]
    pub current_password: SecretString,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub new_password: SecretString,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub struct Account {
    /// Id.
    pub id: Uuid,
    /// Email address.
    pub email: String,
    /// Name to show.
    pub name: String,
    /// What it may do.
    #[schema(value_type = Role)]
    pub role: UserRole,
    /// Whether it may not be used.
    pub disabled: bool,
    /// Since when it may not be used.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Bytes granted; none: no limit.
    pub quota_bytes: Option<i64>,
    /// Bytes of all versions of all files.
    pub used_bytes: i64,
    /// When the account was made.
    pub created_at: DateTime<Utc>,
    /// When anything about it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<&User> for Account {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.0,
            email: user.email.clone(),
            name: user.name.clone(),
            role: user.role,
            disabled: user.disabled_at.is_some(),
            disabled_at: user.disabled_at,
            quota_bytes: user.quota_bytes,
            used_bytes: user.used_bytes,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
pub struct AccountPage {
    /// In the order of their making.
    pub users: Vec<Account>,
    /// Where the next page starts; none at the end.
    pub next_cursor: Option<String>,
}

/// Which accounts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccountQuery {
    /// Part of the email address or the name, without regard to case.
    pub q: Option<String>,
    /// `user` or `admin`.
    pub role: Option<String>,
    /// `true` or `false`.
    pub disabled: Option<String>,
    /// 1 to 200; 50 when absent.
    pub limit: Option<String>,
    /// `next_cursor` of the page before, with the same filters.
    pub cursor: Option<String>,
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// Compared without regard to case.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// Name to show.
    #[serde(default)]
    pub name: Option<String>,
    /// `user` when absent.
    #[serde(default = "ordinary")]
    #[schema(value_type = Role)]
    pub role: UserRole,
    /// Bytes granted; no limit when absent or null.
    #[serde(default)]
    pub quota_bytes: Option<i64>,
}

const fn ordinary() -> UserRole {
    UserRole::User
}

impl CreateAccount {
    /// The same for the domain: the account and its quota.
    pub fn split(self) -> (NewAccount, Option<i64>) {
        let Self { email, password, name, role, quota_bytes } = self;
        (NewAccount { email, password, name, role }, quota_bytes)
    }
}

/// What is to be different; what is left out stays.
#[allow(clippy::option_option, reason = "null takes the quota away, absent leaves it")]
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAccount {
    /// What it may do.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    pub role: Option<UserRole>,
    /// Whether it may not be used. Its sessions end at once.
    #[serde(default)]
    pub disabled: Option<bool>,
    /// Bytes granted; null: no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    pub quota_bytes: Option<Option<i64>>,
}

/// Tells null from absent.
#[allow(clippy::option_option, reason = "that is what it does")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ChangeAccount> for administration::Change {
    fn from(change: ChangeAccount) -> Self {
        Self { role: change.role, disabled: change.disabled, quota: change.quota_bytes }
    }
}

/// A session of an account.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    /// Id.
    pub id: Uuid,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last continued: exact to the life of an access token.
    pub last_used_at: DateTime<Utc>,
    /// Address from which it was last continued.
    pub ip: String,
    /// Client that last continued it, as it names itself.
    pub user_agent: String,
    /// Whether it is the one that asks.
    pub current: bool,
    /// When it ends by itself, unless it is continued.
    pub expires_at: DateTime<Utc>,
}

impl SessionView {
    /// Shows a session to the session `current`, if one asks.
    pub fn new(row: &SessionRow, current: Option<SessionId>) -> Self {
        Self {
            id: row.id.0,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            ip: row.ip.clone(),
            user_agent: row.user_agent.clone(),
            current: current == Some(row.id),
            expires_at: row.expires_at,
        }
    }
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// For the next page; none when there is none.
    pub next_cursor: Option<String>,
}

/// Somebody at an identity provider who signs in to an account.
#[derive(Serialize)]
pub struct IdentityView {
    /// Provider and subject.
    pub id: String,
    provider: String,
    issuer: String,
    subject: String,
    /// Email address at the provider.
    pub email: String,
    /// When it was linked.
    pub created_at: DateTime<Utc>,
    /// When it last signed in.
    pub last_used_at: DateTime<Utc>,
}

impl IdentityView {
    /// Shows an identity with the name that its provider has in the configuration.
    pub fn new(auth: &AuthConfig, row: &Identity) -> Self {
        Self {
            id: identities::id(auth, row),
            provider: identities::provider(auth, row).to_owned(),
            issuer: row.issuer.clone(),
            subject: row.subject.clone(),
            email: row.email.clone(),
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}
