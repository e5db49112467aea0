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

/// The fields of a new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Signup {
    /// Case-insensitive.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// Display name.
    #[serde(default)]
    pub name: Option<String>,
}

/// A new account.
#[derive(Serialize, ToSchema)]
pub struct SignedUp {
    /// A message for humans.
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
    /// For browsers: the tokens are set as cookies that scripts cannot read, and are omitted from the response.
    #[serde(default)]
    pub cookie: bool,
}

/// A refresh token.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// As returned by the login or the last refresh. Works once. If absent, the cookie is used.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub refresh_token: Option<SecretString>,
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
pub struct Tokens {
    /// For `Authorization: Bearer …`. Absent if it was set as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// `bearer`, or `cookie` if the tokens were set as cookies.
    pub token_type: &'static str,
    /// Lifetime of the access token, in seconds.
    pub expires_in: i64,
    /// For the next refresh; works once. Absent if it was set as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The account of the session.
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
    /// The response in cookie mode, without the tokens.
    pub fn in_cookies(session: &session::Session) -> Self {
        Self { access_token: None, token_type: "cookie", refresh_token: None, ..Self::from(session) }
    }
}

/// The role of an account.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Role {
    /// Access to own files only.
    User,
    /// Full access.
    Admin,
}

view! {
    /// A summary of an account.
    #[derive(Serialize, ToSchema)]
    pub struct UserSummary: from(user: &User) {
        /// Id.
        pub id: Uuid = user.id.0,
        /// Email address.
        pub email: String = user.email.clone(),
        /// Display name.
        pub name: String = user.name.clone(),
        /// Role.
        #[schema(value_type = Role)]
        pub role: UserRole = user.role,
    }
}

view! {
    /// The caller's own account.
    #[derive(Serialize, ToSchema)]
    pub struct Me: from(user: &User) {
        /// Id.
        pub id: Uuid = user.id.0,
        /// Email address.
        pub email: String = user.email.clone(),
        /// Display name.
        pub name: String = user.name.clone(),
        /// Role.
        #[schema(value_type = Role)]
        pub role: UserRole = user.role,
        /// Storage quota in bytes; null: no limit.
        pub quota_bytes: Option<i64> = user.quota_bytes,
        /// Total bytes of all versions of all files.
        pub used_bytes: i64 = user.used_bytes,
        /// When the account was created.
        pub created_at: DateTime<Utc> = user.created_at,
    }
}

/// Changes of the caller's own account. Omitted fields do not change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMe {
    /// Display name.
    #[serde(default)]
    pub name: Option<String>,
}

/// A new password, and the current one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The current password.
    #[schema(value_type = String, format = Password)]
    pub current_password: SecretString,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub new_password: SecretString,
}

view! {
    /// An account.
    #[derive(Serialize, ToSchema)]
    pub struct Account: from(user: &User) {
        /// Id.
        pub id: Uuid = user.id.0,
        /// Email address.
        pub email: String = user.email.clone(),
        /// Display name.
        pub name: String = user.name.clone(),
        /// Role.
        #[schema(value_type = Role)]
        pub role: UserRole = user.role,
        /// Whether the account is disabled.
        pub disabled: bool = user.disabled_at.is_some(),
        /// When it was disabled.
        pub disabled_at: Option<DateTime<Utc>> = user.disabled_at,
        /// Storage quota in bytes; null: no limit.
        pub quota_bytes: Option<i64> = user.quota_bytes,
        /// Total bytes of all versions of all files.
        pub used_bytes: i64 = user.used_bytes,
        /// When the account was created.
        pub created_at: DateTime<Utc> = user.created_at,
        /// When the account was last changed.
        pub updated_at: DateTime<Utc> = user.updated_at,
    }
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
pub struct AccountPage {
    /// In the order of their creation.
    pub users: Vec<Account>,
    /// The cursor of the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// Filters for accounts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccountQuery {
    /// Part of the email address or the name, case-insensitive.
    pub q: Option<String>,
    /// `user` or `admin`.
    pub role: Option<String>,
    /// `true` or `false`.
    pub disabled: Option<String>,
    /// 1 to 200, by default 50.
    pub limit: Option<String>,
    /// `next_cursor` of the previous page, with the same filters.
    pub cursor: Option<String>,
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// Case-insensitive.
    #[schema(example = "ada@example.org")]
    pub email: String,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    pub password: SecretString,
    /// Display name.
    #[serde(default)]
    pub name: Option<String>,
    /// `user` if absent.
    #[serde(default = "ordinary")]
    #[schema(value_type = Role)]
    pub role: UserRole,
    /// Storage quota in bytes; no limit if absent or null.
    #[serde(default)]
    pub quota_bytes: Option<i64>,
}

const fn ordinary() -> UserRole {
    UserRole::User
}

impl CreateAccount {
    /// The domain types: the account and its quota.
    pub fn split(self) -> (NewAccount, Option<i64>) {
        let Self { email, password, name, role, quota_bytes } = self;
        (NewAccount { email, password, name, role }, quota_bytes)
    }
}

/// Changes of an account; omitted fields do not change.
#[allow(clippy::option_option, reason = "null removes the quota, absent keeps it")]
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAccount {
    /// Role.
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    pub role: Option<UserRole>,
    /// Whether the account is disabled. Disabling ends its sessions immediately.
    #[serde(default)]
    pub disabled: Option<bool>,
    /// Storage quota in bytes; null: no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    pub quota_bytes: Option<Option<i64>>,
}

/// Distinguishes null from absent.
#[allow(clippy::option_option, reason = "that is its purpose")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ChangeAccount> for administration::Change {
    fn from(change: ChangeAccount) -> Self {
        Self { role: change.role, disabled: change.disabled, quota: change.quota_bytes }
    }
}

// `current` is the session of the caller, if any.
view! {
    /// A session of an account.
    #[derive(Serialize, ToSchema)]
    pub struct SessionView: new(row: &SessionRow, current: Option<SessionId>) {
        /// Id.
        pub id: Uuid = row.id.0,
        /// When it started.
        pub created_at: DateTime<Utc> = row.created_at,
        /// When it was last refreshed: exact to the lifetime of an access token.
        pub last_used_at: DateTime<Utc> = row.last_used_at,
        /// Address of the last refresh.
        pub ip: String = row.ip.clone(),
        /// User agent of the last refresh.
        pub user_agent: String = row.user_agent.clone(),
        /// Whether it is the session of this request.
        pub current: bool = current == Some(row.id),
        /// When it ends unless it is refreshed.
        pub expires_at: DateTime<Utc> = row.expires_at,
    }
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

view! {
    /// An identity at an identity provider that is linked to an account.
    #[derive(Serialize)]
    pub struct IdentityView: new(auth: &AuthConfig, row: &Identity) {
        /// Provider and subject.
        pub id: String = identities::id(auth, row),
        provider: String = identities::provider(auth, row).to_owned(),
        issuer: String = row.issuer.clone(),
        subject: String = row.subject.clone(),
        /// Email address at the provider.
        pub email: String = row.email.clone(),
        /// When it was linked.
        pub created_at: DateTime<Utc> = row.created_at,
        /// When it last signed in.
        pub last_used_at: DateTime<Utc> = row.last_used_at,
    }
}
