//! Accounts and the audit log, as administrators see them.

use chrono::{DateTime, Utc};
use nightferry_core::auth::account::NewAccount;
use nightferry_core::auth::administration;
use nightferry_core::db::audit::Written;
use nightferry_core::db::enums::AuditActor;
use nightferry_core::db::users::User;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::account::Role;

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct Account {
    /// Id.
    id: Uuid,
    /// Email address.
    email: String,
    /// Name to show.
    name: String,
    /// What it may do.
    role: Role,
    /// Whether it may not be used.
    disabled: bool,
    /// Since when it may not be used.
    disabled_at: Option<DateTime<Utc>>,
    /// Bytes granted; none: no limit.
    quota_bytes: Option<i64>,
    /// Bytes of all versions of all files.
    used_bytes: i64,
    /// When the account was made.
    created_at: DateTime<Utc>,
    /// When anything about it last changed.
    updated_at: DateTime<Utc>,
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            id: user.id.0,
            email: user.email,
            name: user.name,
            role: user.role.into(),
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
pub(crate) struct AccountPage {
    /// In the order of their making.
    pub(crate) users: Vec<Account>,
    /// Where the next page starts; none at the end.
    pub(crate) next_cursor: Option<String>,
}

/// Which accounts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AccountQuery {
    /// Part of the email address or the name, without regard to case.
    pub(crate) q: Option<String>,
    /// `user` or `admin`.
    pub(crate) role: Option<String>,
    /// `true` or `false`.
    pub(crate) disabled: Option<String>,
    /// 1 to 200; 50 when absent.
    pub(crate) limit: Option<String>,
    /// `next_cursor` of the page before, with the same filters.
    pub(crate) cursor: Option<String>,
}

/// A new account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateAccount {
    /// Compared without regard to case.
    #[schema(example = "ada@example.org")]
    email: String,
    /// 8 to 71 bytes of UTF-8.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Name to show.
    #[serde(default)]
    name: Option<String>,
    /// `user` when absent.
    #[serde(default)]
    role: Role,
    /// Bytes granted; no limit when absent or null.
    #[serde(default)]
    quota_bytes: Option<i64>,
}

impl CreateAccount {
    /// The same for the domain: the account and its quota.
    pub(crate) fn split(self) -> (NewAccount, Option<i64>) {
        let Self { email, password, name, role, quota_bytes } = self;
        (NewAccount { email, password, name, role: role.into() }, quota_bytes)
    }
}

/// What is to be different; what is left out stays.
#[allow(clippy::option_option, reason = "null takes the quota away, absent leaves it")]
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeAccount {
    /// What it may do.
    #[serde(default)]
    role: Option<Role>,
    /// Whether it may not be used. Its sessions end at once.
    #[serde(default)]
    disabled: Option<bool>,
    /// Bytes granted; null: no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>)]
    quota_bytes: Option<Option<i64>>,
}

/// Tells null from absent.
#[allow(clippy::option_option, reason = "that is what it does")]
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ChangeAccount> for administration::Change {
    fn from(change: ChangeAccount) -> Self {
        Self { role: change.role.map(Into::into), disabled: change.disabled, quota: change.quota_bytes }
    }
}

/// One act.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditEvent {
    /// Id.
    id: Uuid,
    /// When.
    at: DateTime<Utc>,
    /// Who.
    actor: Actor,
    /// What, as `noun.verb`.
    #[schema(example = "user.role")]
    action: String,
    /// Kind of the thing acted on.
    target_type: String,
    /// Its id.
    target_id: String,
    /// Address of the client; none for the CLI and the service itself.
    ip: Option<String>,
    /// The client, as it names itself.
    user_agent: Option<String>,
    /// Anything else.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

/// Who acted.
#[derive(Serialize, ToSchema)]
pub(crate) struct Actor {
    /// What kind of actor.
    kind: ActorKind,
    /// Which account, of a `user`.
    id: Option<Uuid>,
    /// Its email address.
    email: Option<String>,
}

/// What kind of actor.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ActorKind {
    /// Somebody with an account.
    User,
    /// An operator at the machine, with the admin CLI.
    Cli,
    /// The service itself: a schedule, a worker.
    System,
    /// Somebody who has not signed in.
    Anonymous,
}

impl From<AuditActor> for ActorKind {
    fn from(kind: AuditActor) -> Self {
        match kind {
            AuditActor::User => Self::User,
            AuditActor::Cli => Self::Cli,
            AuditActor::System => Self::System,
            AuditActor::Anonymous => Self::Anonymous,
        }
    }
}

impl From<(Written, Option<String>)> for AuditEvent {
    fn from((event, email): (Written, Option<String>)) -> Self {
        let filled = |text: String| (!text.is_empty()).then_some(text);
        Self {
            id: event.id,
            at: event.at,
            actor: Actor { kind: event.kind().into(), id: event.actor_id.map(|id| id.0), email },
            action: event.action,
            target_type: event.target_type,
            target_id: event.target_id,
            ip: filled(event.ip),
            user_agent: filled(event.user_agent),
            detail: event.detail,
        }
    }
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditPage {
    /// Newest first.
    pub(crate) events: Vec<AuditEvent>,
    /// Where the next page starts; none at the end.
    pub(crate) next_cursor: Option<String>,
}

/// Which acts.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// An account's id or email address, or `user`, `cli`, `system`, `anonymous` for all of a kind.
    pub(crate) actor: Option<String>,
    /// An action such as `user.role`, or all of a noun: `session.*`.
    pub(crate) action: Option<String>,
    /// A kind of thing, such as `file`.
    pub(crate) target_type: Option<String>,
    /// The id of a thing.
    pub(crate) target_id: Option<String>,
    /// RFC 3339; acts from then on.
    pub(crate) since: Option<String>,
    /// RFC 3339; acts before.
    pub(crate) until: Option<String>,
    /// 1 to 200; 50 when absent.
    pub(crate) limit: Option<String>,
    /// `next_cursor` of the page before, with the same filters.
    pub(crate) cursor: Option<String>,
}
