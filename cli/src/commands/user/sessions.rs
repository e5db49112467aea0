//! `nightferry user sessions`, `revoke`, `identities` and `unlink`: how an account is signed in.

use clap::Args;
use nightferry_api_types::account::{IdentityView, SessionView};
use nightferry_core::auth::{identities, session_list};
use nightferry_core::context::Context;
use nightferry_core::db::sessions::SessionRow;
use nightferry_core::ids::SessionId;

use super::{App, UserArgs, find};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{plain, table};
use crate::output::{TextStyle, document};

const SESSIONS_EXAMPLES: &str = "\
Examples:
  nightferry user sessions ada@example.org
  nightferry --json user sessions ada@example.org | jq -r '.sessions[].ip' | sort -u

To end one: user revoke EMAIL --session SESSION-ID. LAST USED is accurate to auth.access_token_ttl.";

#[derive(Debug, Args)]
#[command(after_help = SESSIONS_EXAMPLES)]
pub(crate) struct SessionsArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Maximum number of sessions, newest first
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

pub(super) async fn sessions(app: &App, context: &Context, args: &SessionsArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (rows, more) = session_list::page(context, user.id, None, i64::from(args.limit))
        .await
        .map_err(cannot("list the sessions"))?;
    let shown: Vec<_> = rows.iter().map(|row| SessionView::new(row, None)).collect();
    app.output.result(&document!(sessions: shown, more: more), |look| sessions_table(&rows, look))?;
    if rows.is_empty() {
        app.output.note(&format!("{} has no sessions.", user.email));
    }
    Ok(Exit::Ok)
}

fn sessions_table(sessions: &[SessionRow], look: TextStyle) -> String {
    table("SINCE | LAST USED | UNTIL | ADDRESS | CLIENT | ID", sessions, |session| {
        [
            look.zone.show(session.created_at),
            look.zone.show(session.last_used_at),
            look.zone.show(session.expires_at),
            session.ip.clone(),
            plain(&session.user_agent),
            session.id.to_string(),
        ]
    })
}

const REVOKE_EXAMPLES: &str = "\
Examples:
  nightferry user revoke ada@example.org                          all sessions
  nightferry user revoke ada@example.org --tokens                 also personal access tokens
  nightferry user revoke ada@example.org --session SESSION-ID     only this session

The next request of a revoked session or token is rejected by every API instance. To lock the account: user \
disable.";

#[derive(Debug, Args)]
#[command(after_help = REVOKE_EXAMPLES)]
pub(crate) struct RevokeArgs {
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

pub(super) async fn revoke(app: &App, context: &Context, args: &RevokeArgs) -> Result<Exit, Failure> {
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
    app.output.result(&document, |_| format!("{}: sessions ended: {sessions}{revoked}.", user.email))
}

pub(super) const IDENTITIES_EXAMPLES: &str = "\
Examples:
  nightferry user identities ada@example.org
  nightferry --json user identities ada@example.org | jq -r '.identities[].id'

To unlink one: user unlink EMAIL ID.";

const UNLINK_EXAMPLES: &str = "\
Examples:
  nightferry user unlink ada@example.org google/1234567890

All sessions of the account end. If the provider has link_by_email, the identity is linked again at the \
next sign-in: to lock a user out, disable the account.";

#[derive(Debug, Args)]
#[command(after_help = UNLINK_EXAMPLES)]
pub(crate) struct UnlinkArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// The identity, as listed by `user identities`
    #[arg(value_name = "PROVIDER/ID")]
    identity: String,
}

pub(super) async fn identities(app: &App, context: &Context, args: &UserArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let rows = identities::list(context, user.id).await.map_err(cannot("list the identities"))?;
    let auth = &context.config.auth;
    let shown: Vec<_> = rows.iter().map(|row| IdentityView::new(auth, row)).collect();
    app.output.result(&document!(identities: &shown), |look| identities_table(&shown, look))?;
    if shown.is_empty() {
        app.output.note(&format!("{} has no linked identities.", user.email));
    }
    Ok(Exit::Ok)
}

pub(super) async fn unlink(app: &App, context: &Context, args: &UnlinkArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (row, sessions) = identities::unlink(context, user.id, &args.identity, &origin())
        .await
        .map_err(cannot(format!("unlink {}", args.identity)))?;
    let unlinked = IdentityView::new(&context.config.auth, &row);
    app.output.result(&document!(unlinked: unlinked, sessions: sessions), |_| {
        format!("{}: {} is no longer linked; sessions ended: {sessions}.", user.email, plain(&args.identity))
    })
}

fn identities_table(identities: &[IdentityView], look: TextStyle) -> String {
    table("ID | ADDRESS THERE | LINKED | LAST USED", identities, |identity| {
        [
            plain(&identity.id),
            plain(&identity.email),
            look.zone.show(identity.created_at),
            look.zone.show(identity.last_used_at),
        ]
    })
}
