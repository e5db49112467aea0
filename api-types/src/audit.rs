//! The audit log.

use chrono::{DateTime, Utc};
use nightferry_core::db::audit::Written;
use nightferry_core::db::enums::AuditActor;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// One audit event.
#[derive(Serialize, ToSchema)]
pub struct AuditEvent {
    /// Id.
    pub id: Uuid,
    /// When the event happened.
    pub at: DateTime<Utc>,
    /// Who caused the event.
    pub actor: Actor,
    /// The action, as `noun.verb`.
    #[schema(example = "user.role")]
    pub action: String,
    /// Kind of the target.
    pub target_type: String,
    /// The id of the target.
    pub target_id: String,
    /// Address of the client; null for the CLI and the service itself.
    pub ip: Option<String>,
    /// The user agent of the client.
    pub user_agent: Option<String>,
    /// Details of the action.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

/// The actor.
#[derive(Serialize, ToSchema)]
pub struct Actor {
    /// The kind of actor.
    #[schema(value_type = ActorKind)]
    pub kind: AuditActor,
    /// The account, for a `user`.
    pub id: Option<Uuid>,
    /// Email address.
    pub email: Option<String>,
}

/// The kind of actor.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ActorKind {
    /// A signed-in user.
    User,
    /// An operator using the admin CLI.
    Cli,
    /// The service itself: a schedule, a worker.
    System,
    /// A client that is not signed in.
    Anonymous,
}

impl From<&(Written, Option<String>)> for AuditEvent {
    fn from((event, email): &(Written, Option<String>)) -> Self {
        let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            id: event.id,
            at: event.at,
            actor: Actor { kind: event.kind(), id: event.actor_id.map(|id| id.0), email: email.clone() },
            action: event.action.clone(),
            target_type: event.target_type.clone(),
            target_id: event.target_id.clone(),
            ip: filled(&event.ip),
            user_agent: filled(&event.user_agent),
            detail: event.detail.clone(),
        }
    }
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
pub struct AuditPage {
    /// Newest first.
    pub events: Vec<AuditEvent>,
    /// The cursor of the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// Filters for events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// The id or email address of an account, or `user`, `cli`, `system`, `anonymous` for all of a kind.
    pub actor: Option<String>,
    /// An action such as `user.role`, or all actions of a noun: `session.*`.
    pub action: Option<String>,
    /// A kind of target, such as `file`.
    pub target_type: Option<String>,
    /// The id of a target.
    pub target_id: Option<String>,
    /// RFC 3339; events from this time on.
    pub since: Option<String>,
    /// RFC 3339; events before this time.
    pub until: Option<String>,
    /// 1 to 200, by default 50.
    pub limit: Option<String>,
    /// `next_cursor` of the previous page, with the same filters.
    pub cursor: Option<String>,
}
