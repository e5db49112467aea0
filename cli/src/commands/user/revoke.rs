//! `nightferry user revoke`: ends the sessions of an account, and revokes its personal access tokens.

use clap::Args;
use nightferry_core::auth::session_list;
use nightferry_core::context::Context;
use nightferry_core::ids::SessionId;

use super::{App, find};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry user revoke ada@example.org                          all sessions
  nightferry user revoke ada@example.org --tokens                 also personal access tokens
  nightferry user revoke ada@example.org --session SESSION-ID     only this session

The next request of a revoked session or token is rejected by every API instance. To lock the account: user \
disable.";

/// Options of `user revoke`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RevokeArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Only this session, as listed by `user sessions`
    #[arg(long, value_name = "SESSION-ID", conflicts_with = "tokens")]
    session: Option<SessionId>,
    /// Also revoke all personal access tokens
    #[arg(long)]
    tokens: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &RevokeArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (sessions, tokens) = if let Some(session) = args.session {
        session_list::end(context, session, user.id, None, &origin())
            .await
            .map_err(cannot("end the session"))?;
        (1, 0)
    } else {
        let ended = session_list::end_all(context, user.id, args.tokens, None, &origin())
            .await
            .map_err(cannot("end the sessions"))?;
        (ended.sessions, ended.tokens)
    };
    let revoked =
        if args.tokens { format!(", personal access tokens revoked: {tokens}") } else { String::new() };
    let document = document!(sessions: sessions, tokens: tokens);
    app.output.result(&document, |_| format!("{}: sessions ended: {sessions}{revoked}.", user.email))?;
    Ok(Exit::Ok)
}
