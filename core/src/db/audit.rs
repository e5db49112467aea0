//! The `audit_events` table: who did what to what, from where, when. An act is written with the connection of its own
//! transaction, so that neither is there without the other.

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

/// By which door an act came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Channel {
    /// The HTTP API.
    Api,
    /// The admin CLI.
    Cli,
    /// None: the service did it by itself.
    #[default]
    System,
}

/// From where an act came.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Address of the client, empty when there is none (CLI, schedule).
    pub ip: String,
    /// Client, as it names itself.
    pub user_agent: String,
    /// By which door.
    pub channel: Channel,
}

/// One act worth remembering.
#[derive(Debug)]
pub struct Event<'a> {
    /// Which account, if any; without one the origin tells who.
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
    let kind = match (event.actor, event.origin.channel) {
        (Some(_), _) => AuditActor::User,
        (None, Channel::Api) => AuditActor::Anonymous,
        (None, Channel::Cli) => AuditActor::Cli,
        (None, Channel::System) => AuditActor::System,
    };
    diesel::insert_into(audit_events::table)
        .values((
            audit_events::id.eq(Uuid::now_v7()),
            audit_events::actor_id.eq(event.actor),
            audit_events::actor_kind.eq(kind),
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

/// An event as it was written.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = audit_events, check_for_backend(Pg))]
pub struct Written {
    /// Id.
    pub id: Uuid,
    /// When its transaction began.
    pub at: DateTime<Utc>,
    /// Kind of the one who acted; where `actor_id` is set it is a user whatever stands here.
    pub actor_kind: AuditActor,
    /// Which account acted, if any.
    pub actor_id: Option<UserId>,
    /// What, as `noun.verb`.
    pub action: String,
    /// Kind of the thing acted on.
    pub target_type: String,
    /// Its id.
    pub target_id: String,
    /// Address of the client, or empty.
    pub ip: String,
    /// Client, as it names itself, or empty.
    pub user_agent: String,
    /// Anything else.
    pub detail: serde_json::Value,
}

impl Written {
    /// Who acted. Rows from before kinds were kept say `system` of everybody.
    pub fn kind(&self) -> AuditActor {
        if self.actor_id.is_some() { AuditActor::User } else { self.actor_kind }
    }
}

/// Who is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// One account.
    Account(UserId),
    /// All of a kind.
    Kind(AuditActor),
}

/// The place of an event in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// When.
    pub at: DateTime<Utc>,
    /// Which, of those at the same time.
    pub id: Uuid,
}

/// Which events to read.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// By whom.
    pub who: Option<Who>,
    /// What: an action, or `noun.*` for all of a noun.
    pub action: Option<String>,
    /// On which kind of thing.
    pub target_type: Option<String>,
    /// On which thing.
    pub target_id: Option<String>,
    /// Not before.
    pub since: Option<DateTime<Utc>>,
    /// Before.
    pub until: Option<DateTime<Utc>>,
    /// Only older ones than this.
    pub before: Option<Position>,
}

/// Events with the email address of the account that acted, newest first, at most `limit`.
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
            // The characters of a noun hold none that LIKE knows.
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
        // A row comparison, so that the index is entered at the right place.
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

/// Drops events from before `before`, the oldest first, at most `limit`. Answers how many.
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
