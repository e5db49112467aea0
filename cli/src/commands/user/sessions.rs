//! `nightferry user sessions`: the sessions of an account.

use clap::Args;
use nightferry_api_types::account::SessionView;
use nightferry_core::auth::session_list;
use nightferry_core::context::Context;
use nightferry_core::db::sessions::SessionRow;

use super::{App, find};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Table, plain};
use crate::output::{TextStyle, document};

const EXAMPLES: &str = "\
Examples:
  nightferry user sessions ada@example.org
  nightferry --json user sessions ada@example.org | jq -r '.sessions[].ip' | sort -u

To end one: user revoke EMAIL --session SESSION-ID. LAST USED is accurate to auth.access_token_ttl.";

/// Options of `user sessions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SessionsArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Maximum number of sessions, newest first
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

pub(super) async fn run(app: &App, context: &Context, args: &SessionsArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (rows, more) = session_list::page(context, user.id, None, i64::from(args.limit))
        .await
        .map_err(cannot("list the sessions"))?;
    let shown: Vec<_> = rows.iter().map(|row| SessionView::new(row, None)).collect();
    app.output.result(&document!(sessions: shown, more: more), |look| text(&rows, look))?;
    if rows.is_empty() {
        app.output.note(&format!("{} has no sessions.", user.email));
    }
    Ok(Exit::Ok)
}

fn text(sessions: &[SessionRow], look: TextStyle) -> String {
    let mut table = Table::new("SINCE | LAST USED | UNTIL | ADDRESS | CLIENT | ID");
    for session in sessions {
        table.row([
            look.zone.show(session.created_at),
            look.zone.show(session.last_used_at),
            look.zone.show(session.expires_at),
            session.ip.clone(),
            plain(&session.user_agent),
            session.id.to_string(),
        ]);
    }
    table.render()
}
