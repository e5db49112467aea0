//! `nightferry token`: personal access tokens. A new one is printed once, alone on standard output, so that it can be
//! piped.

use chrono::Duration;
use clap::{Args, Subcommand};
use nightferry_api_types::token::{MadeToken, TokenView};
use nightferry_core::auth::permission::Scope;
use nightferry_core::auth::personal_token::{self, Wanted};
use nightferry_core::context::Context;
use nightferry_core::ids::PersonalTokenId;
use nightferry_core::services::Services;

use super::{App, user};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{plain, table};
use crate::output::{TextStyle, document};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token with which a program can act for an account
    Create(CreateArgs),
    /// List the tokens of an account
    List(ListArgs),
    /// Revoke a token
    Revoke(RevokeArgs),
}

pub(super) async fn run(app: &App, services: &Services, command: TokenCommand) -> Result<Exit, Failure> {
    let context = &services.context;
    match command {
        TokenCommand::Create(args) => create(app, context, args).await,
        TokenCommand::List(args) => list(app, context, &args).await,
        TokenCommand::Revoke(args) => revoke(app, context, &args).await,
    }
}

const CREATE_EXAMPLES: &str = "\
Examples:
  nightferry token create ada@example.org --name backup --scope files:read
  nightferry token create ada@example.org --name cron --scope sync --scope admin --expires-in 90d
  nightferry token create ada@example.org --name ci --scope files:write | gh secret set NIGHTFERRY_TOKEN

The token is printed once and cannot be shown again: only its hash is stored. The scope admin is effective \
while the account is an administrator.";

#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Name of the token
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Scope of the token; can be repeated: files:read, files:write, sync, admin
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<Scope>,
    /// Lifetime, such as 90d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires_in: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = nightferry_core::units::parse_duration(text)?;
    Duration::from_std(duration).map_err(|_| "is too long".to_owned())
}

async fn create(app: &App, context: &Context, args: CreateArgs) -> Result<Exit, Failure> {
    let owner = user::find(context, &args.email).await?;
    let wanted = Wanted { name: args.name, scopes: args.scopes, expires_in: args.expires_in };
    let (secret, row) = personal_token::create(context, owner.id, wanted, None, &origin())
        .await
        .map_err(cannot("create the token"))?;
    let document = MadeToken::new(&secret, TokenView::new(&row, context.clock.now()));
    app.output.note(&format!("Created the token {} for {}. It is shown only once:", row.id, owner.email));
    app.output.result(&document, |_| document.token.clone())
}

const LIST_EXAMPLES: &str = "\
Examples:
  nightferry token list ada@example.org
  nightferry --json token list ada@example.org | jq '.tokens[] | select(.state == \"expired\")'";

#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
}

async fn list(app: &App, context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let owner = user::find(context, &args.email).await?;
    let rows = personal_token::list(context, owner.id).await.map_err(cannot("list the tokens"))?;
    let now = context.clock.now();
    let tokens: Vec<_> = rows.iter().map(|row| TokenView::new(row, now)).collect();
    app.output.result(&document!(tokens: &tokens), |look| text(&tokens, look))?;
    if rows.is_empty() {
        app.output.note(&format!("{} has no personal access tokens.", owner.email));
    }
    Ok(Exit::Ok)
}

fn text(tokens: &[TokenView], look: TextStyle) -> String {
    table("NAME | SCOPES | STATE | CREATED | EXPIRES | LAST USED | ID", tokens, |token| {
        [
            plain(&token.name),
            token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "),
            look.state(token.state),
            look.zone.show(token.created_at),
            token.expires_at.map_or_else(|| "never".to_owned(), |at| look.zone.show(at)),
            token.last_used_at.map_or_else(|| "never".to_owned(), |at| look.zone.show(at)),
            token.id.to_string(),
        ]
    })
}

const REVOKE_EXAMPLES: &str = "\
Examples:
  nightferry token list ada@example.org        shows the ids
  nightferry token revoke 01941f29-7c1e-7cc2-8d3f-3a5e8f3f2b10";

#[derive(Debug, Args)]
#[command(after_help = REVOKE_EXAMPLES)]
pub(crate) struct RevokeArgs {
    /// The id of the token
    #[arg(value_name = "TOKEN-ID")]
    id: PersonalTokenId,
}

async fn revoke(app: &App, context: &Context, args: &RevokeArgs) -> Result<Exit, Failure> {
    let row = personal_token::revoke(context, args.id, None, None, &origin())
        .await
        .map_err(cannot(format!("revoke the token {}", args.id)))?;
    let shown = TokenView::new(&row, context.clock.now());
    app.output.result(&document!(token: shown), |_| format!("Revoked the token \"{}\".", plain(&row.name)))
}
