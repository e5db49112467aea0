//! `nightferry user sessions`: where an account is signed in.

use chrono::{DateTime, Utc};
use clap::Args;
use nightferry_core::auth::session_list;
use nightferry_core::context::Context;
use nightferry_core::db::sessions::SessionRow;
use serde::Serialize;

use super::{App, find};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Align, Table, plain};
use crate::output::Look;

const EXAMPLES: &str = "\
Examples:
  nightferry user sessions ada@example.org
  nightferry --json user sessions ada@example.org | jq -r '.sessions[].ip' | sort -u

To end one: user revoke EMAIL --session SESSION-ID. LAST USED is exact to auth.access_token_ttl.";

/// Options of `user sessions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SessionsArgs {
    /// The account's email address
    #[arg(value_name = "EMAIL")]
    email: String,
    /// At most so many, those that began last
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

#[derive(Serialize)]
struct SessionDocument {
    id: String,
    created_at: DateTime<Utc>,
    last_used_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    ip: String,
    user_agent: String,
}

#[derive(Serialize)]
struct Document {
    sessions: Vec<SessionDocument>,
    more: bool,
}

impl SessionDocument {
    fn of(row: SessionRow) -> Self {
        Self {
            id: row.id.to_string(),
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            ip: row.ip,
            user_agent: row.user_agent,
        }
    }
}

pub(super) async fn run(app: &App, context: &Context, args: &SessionsArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (rows, more) = session_list::page(context, user.id, None, i64::from(args.limit))
        .await
        .map_err(cannot("list the sessions"))?;
    let document = Document { sessions: rows.into_iter().map(SessionDocument::of).collect(), more };
    app.output.result(&document, |look| text(&document.sessions, look))?;
    if document.sessions.is_empty() {
        app.output.note(&format!("{} is signed in nowhere.", user.email));
    }
    Ok(Exit::Ok)
}

fn text(sessions: &[SessionDocument], look: Look) -> String {
    let mut table = Table::new(&[
        ("SINCE", Align::Left),
        ("LAST USED", Align::Left),
        ("UNTIL", Align::Left),
        ("ADDRESS", Align::Left),
        ("CLIENT", Align::Left),
        ("ID", Align::Left),
    ]);
    for session in sessions {
        table.row([
            look.zone.show(session.created_at),
            look.zone.show(session.last_used_at),
            look.zone.show(session.expires_at),
            session.ip.clone(),
            plain(&session.user_agent),
            session.id.clone(),
        ]);
    }
    table.render()
}
