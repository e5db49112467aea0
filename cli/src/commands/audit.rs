//! `nightferry audit`: the audit log.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nightferry_api_types::audit::AuditEvent;
use nightferry_core::audit;
use nightferry_core::context::Context;
use nightferry_core::db::audit::{Filter, Written};
use nightferry_core::services::Services;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::App;
use crate::commands::watch::stop_on_ctrl_c;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::plain;
use crate::output::{TextStyle, document};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the latest events; --follow waits for new ones
    Tail(TailArgs),
}

pub(super) async fn run(app: &App, services: &Services, command: AuditCommand) -> Result<Exit, Failure> {
    let context = &services.context;
    match command {
        AuditCommand::Tail(args) => tail(app, context, &args).await,
    }
}

const EXAMPLES: &str = "\
Examples:
  nightferry audit tail
  nightferry audit tail --follow --action 'session.*'
  nightferry audit tail --user ada@example.org --since 2026-01-31T00:00:00Z
  nightferry --json audit tail | jq -r '.events[] | [.at, .actor.email, .action] | @tsv'

With --json --follow, each event is printed on one line. Actors: an email address, the id of an account, or \
one of user, cli, system, anonymous.";

/// Polling interval with --follow.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// An event becomes visible when its transaction commits, but is ordered by the start of the transaction: each poll
/// looks back this far.
const OVERLAP: chrono::Duration = chrono::Duration::minutes(5);
/// Events read in one query.
const PAGE: i64 = 1000;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TailArgs {
    /// Maximum number of past events
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    limit: u16,
    /// Continue with new events until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only this action, or all actions of a noun: 'session.*'
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only events of this account or kind of actor
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only events whose target has this id
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// Only events from this time on
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "follow")]
    until: Option<DateTime<Utc>>,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "expected a time such as 2026-01-31T12:00:00Z".to_owned())
}

type Event = (Written, Option<String>);

async fn tail(app: &App, context: &Context, args: &TailArgs) -> Result<Exit, Failure> {
    let mut filter = Filter {
        action: args.action.clone(),
        target_id: args.target.clone(),
        since: args.since,
        until: args.until,
        ..Filter::default()
    };
    if let Some(user) = &args.user {
        filter.who =
            Some(audit::who(context, user).await.map_err(cannot(format!("find the account {user}")))?);
    }
    // Events have the time of the database.
    context.compare_clocks().await.map_err(cannot("read the audit log"))?;
    let began = context.clock.now();
    let (mut events, more) = page(context, &filter, i64::from(args.limit)).await?;
    events.reverse();
    if !args.follow {
        let shown: Vec<_> = events.iter().map(AuditEvent::from).collect();
        app.output.result(&document!(events: shown, more: more), |look| {
            let lines: Vec<String> = events.iter().map(|event| line(event, look)).collect();
            lines.join("\n")
        })?;
        if events.is_empty() {
            app.output.note("There are no matching events.");
        }
        return Ok(Exit::Ok);
    }
    let stop = stop_on_ctrl_c();
    print(app, &events)?;
    follow(app, context, filter, events, began, &stop).await
}

/// Polls repeatedly. Events that existed before are not shown again.
async fn follow(
    app: &App,
    context: &Context,
    mut filter: Filter,
    shown: Vec<Event>,
    began: DateTime<Utc>,
    stop: &CancellationToken,
) -> Result<Exit, Failure> {
    let mut seen: HashSet<Uuid> = shown.into_iter().map(|(event, _)| event.id).collect();
    let mut newest = began;
    // Older events beyond the limit are not shown.
    filter.since = Some(began - OVERLAP);
    filter.before = None;
    for (event, _) in pages(context, &filter).await? {
        if event.at < began {
            seen.insert(event.id);
        }
    }
    loop {
        filter.since = Some(newest - OVERLAP);
        let mut fresh = pages(context, &filter).await?;
        let present: HashSet<Uuid> = fresh.iter().map(|(event, _)| event.id).collect();
        fresh.retain(|(event, _)| !seen.contains(&event.id));
        fresh.reverse();
        print(app, &fresh)?;
        newest = fresh.iter().map(|(event, _)| event.at).fold(newest, Ord::max);
        seen = present;
        tokio::select! {
            () = stop.cancelled() => return Ok(Exit::Ok),
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }
}

async fn page(context: &Context, filter: &Filter, limit: i64) -> Result<(Vec<Event>, bool), Failure> {
    audit::page(context, filter, limit).await.map_err(cannot("read the audit log"))
}

/// All matching events, newest first.
async fn pages(context: &Context, filter: &Filter) -> Result<Vec<Event>, Failure> {
    let mut filter = filter.clone();
    let mut all = Vec::new();
    loop {
        let (events, more) = page(context, &filter, PAGE).await?;
        filter.before =
            events.last().map(|(last, _)| nightferry_core::db::audit::Position { at: last.at, id: last.id });
        all.extend(events);
        if !more {
            return Ok(all);
        }
    }
}

fn print(app: &App, events: &[Event]) -> Result<(), Failure> {
    events.iter().try_for_each(|event| app.output.line(&AuditEvent::from(event), |look| line(event, look)))
}

/// One event on one line. Its content cannot contain line breaks.
fn line((event, email): &Event, look: TextStyle) -> String {
    let actor = email.as_deref().unwrap_or_else(|| event.kind().as_str());
    let from = if event.ip.is_empty() { String::new() } else { format!(" from {}", plain(&event.ip)) };
    let detail = match &event.detail {
        serde_json::Value::Object(map) if map.is_empty() => String::new(),
        detail => format!(" {}", plain(&detail.to_string())),
    };
    format!(
        "{} {} {} {} {}{from}{detail}",
        look.zone.show(event.at),
        plain(actor),
        event.action,
        event.target_type,
        plain(&event.target_id),
    )
}
