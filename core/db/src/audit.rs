//! The `audit_events` table. An event is written on the connection of its action's transaction, so that neither exists
//! without the other.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::enums::AuditActor;
use super::schema::{audit_events, users};
use crate::error::Result;
use crate::ids::UserId;

/// The interface of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channel {
    /// The HTTP API.
    Api,
    /// The admin CLI.
    Cli,
    /// `None`: the service itself.
    #[default]
    System,
}

/// The origin of an action.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Address of the client, empty if there is none (CLI, schedule).
    pub ip: String,
    /// User agent of the client.
    pub user_agent: String,
    /// The interface.
    pub channel: Channel,
}

/// Writes an event: an action, as `noun.verb`, of the account `actor` (without one, the origin determines the actor) on
/// a target, given by its kind and its id. `detail` must not contain secrets.
pub async fn record(
    conn: &mut AsyncPgConnection,
    origin: &Origin,
    actor: Option<UserId>,
    action: &'static str,
    (target_type, target_id): (&'static str, impl ToString),
    detail: serde_json::Value,
) -> Result<()> {
    let kind = match (actor, origin.channel) {
        (Some(_), _) => AuditActor::User,
        (None, Channel::Api) => AuditActor::Anonymous,
        (None, Channel::Cli) => AuditActor::Cli,
        (None, Channel::System) => AuditActor::System,
    };
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::id.eq(Uuid::now_v7()),
            audit_events::actor_id.eq(actor),
            audit_events::actor_kind.eq(kind),
            audit_events::action.eq(action),
            audit_events::target_type.eq(target_type),
            audit_events::target_id.eq(target_id.to_string()),
            audit_events::ip.eq(&origin.ip),
            audit_events::user_agent.eq(&origin.user_agent),
            audit_events::detail.eq(detail),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// A stored event.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = audit_events, check_for_backend(Pg))]
pub struct Written {
    /// Id.
    pub id: Uuid,
    /// When its transaction started.
    pub at: DateTime<Utc>,
    /// Kind of actor; if `actor_id` is set, the actor is a user regardless of this value.
    pub actor_kind: AuditActor,
    /// The acting account, if any.
    pub actor_id: Option<UserId>,
    /// The action, as `noun.verb`.
    pub action: String,
    /// Kind of the target.
    pub target_type: String,
    /// The id of the target.
    pub target_id: String,
    /// Address of the client, or empty.
    pub ip: String,
    /// User agent of the client, or empty.
    pub user_agent: String,
    /// Details of the action.
    pub detail: serde_json::Value,
}

impl Written {
    /// The actor. Rows from before kinds were recorded always have `system`.
    pub fn kind(&self) -> AuditActor {
        if self.actor_id.is_some() { AuditActor::User } else { self.actor_kind }
    }
}

/// An actor filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// One account.
    Account(UserId),
    /// All actors of a kind.
    Kind(AuditActor),
}

/// The position of an event in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// When.
    pub at: DateTime<Utc>,
    /// Distinguishes events with the same time.
    pub id: Uuid,
}

/// Filters for events.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Actor.
    pub who: Option<Who>,
    /// An action, or `noun.*` for all actions of a noun.
    pub action: Option<String>,
    /// Kind of target.
    pub target_type: Option<String>,
    /// Id of the target.
    pub target_id: Option<String>,
    /// Lower bound, inclusive.
    pub since: Option<DateTime<Utc>>,
    /// Upper bound, exclusive.
    pub until: Option<DateTime<Utc>>,
    /// Only events older than this.
    pub before: Option<Position>,
}

/// Events with the email address of the acting account, newest first, at most `limit`.
pub async fn page(
    conn: &mut AsyncPgConnection,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<(Written, Option<String>)>> {
    let mut query = audit_events::table
        .left_join(users::table.on(users::id.nullable().eq(audit_events::actor_id)))
        .select((Written::as_select(), users::email.nullable()))
        .order((audit_events::at.desc(), audit_events::id.desc()))
        .limit(limit)
        .into_boxed::<Pg>();
    match filter.who {
        None => {}
        Some(Who::Account(id)) => query = query.filter(audit_events::actor_id.eq(id)),
        Some(Who::Kind(AuditActor::User)) => query = query.filter(audit_events::actor_id.is_not_null()),
        Some(Who::Kind(kind)) => {
            query = query.filter(audit_events::actor_id.is_null()).filter(audit_events::actor_kind.eq(kind));
        }
    }
    if let Some(action) = &filter.action {
        query = match action.strip_suffix(".*") {
            // The characters of a noun have no meaning in LIKE.
            Some(noun) => query.filter(audit_events::action.like(format!("{noun}.%"))),
            None => query.filter(audit_events::action.eq(action.clone())),
        };
    }
    if let Some(kind) = &filter.target_type {
        query = query.filter(audit_events::target_type.eq(kind.clone()));
    }
    if let Some(id) = &filter.target_id {
        query = query.filter(audit_events::target_id.eq(id.clone()));
    }
    if let Some(since) = filter.since {
        query = query.filter(audit_events::at.ge(since));
    }
    if let Some(until) = filter.until {
        query = query.filter(audit_events::at.lt(until));
    }
    if let Some(before) = filter.before {
        // A row comparison, so that the index scan starts at the right position.
        query = query.filter(
            diesel::dsl::sql::<Bool>("(audit_events.at, audit_events.id) < (")
                .bind::<Timestamptz, _>(before.at)
                .sql(", ")
                .bind::<SqlUuid, _>(before.id)
                .sql(")"),
        );
    }
    Ok(query.load(conn).await?)
}

/// Deletes events from before `before`, oldest first, at most `limit`. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>, limit: i64) -> Result<usize> {
    Ok(diesel::sql_query(
        "DELETE FROM audit_events WHERE id IN ( \
             SELECT id FROM audit_events WHERE at < $1 ORDER BY at, id LIMIT $2)",
    )
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}
