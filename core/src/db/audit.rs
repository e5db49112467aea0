//! The `audit_events` table. Call it with the connection of the act's own transaction.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::audit_events;
use crate::error::Result;
use crate::ids::UserId;

/// From where an act came.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Address of the client, empty when there is none (CLI, schedule).
    pub ip: String,
    /// Client, as it names itself.
    pub user_agent: String,
}

/// One act worth remembering.
#[derive(Debug)]
pub struct Event<'a> {
    /// Who; none for the system itself.
    pub actor: Option<UserId>,
    /// What, as `noun.verb`.
    pub action: &'static str,
    /// Kind of the thing acted on.
    pub target_type: &'static str,
    /// Its id.
    pub target_id: String,
    /// From where.
    pub origin: &'a Origin,
    /// Anything else, without secrets.
    pub detail: serde_json::Value,
}

/// Writes an event.
pub async fn record(conn: &mut AsyncPgConnection, event: Event<'_>) -> Result<()> {
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::id.eq(Uuid::now_v7()),
            audit_events::actor_id.eq(event.actor),
            audit_events::action.eq(event.action),
            audit_events::target_type.eq(event.target_type),
            audit_events::target_id.eq(event.target_id),
            audit_events::ip.eq(&event.origin.ip),
            audit_events::user_agent.eq(&event.origin.user_agent),
            audit_events::detail.eq(event.detail),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
