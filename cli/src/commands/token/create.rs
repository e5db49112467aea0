//! `nightferry token create`: prints the secret once, alone on standard output, so that it can be piped.

use chrono::Duration;
use clap::Args;
use nightferry_api_types::token::{MadeToken, TokenView};
use nightferry_core::auth::permission::Scope;
use nightferry_core::auth::personal_token::{self, Wanted};
use nightferry_core::context::Context;

use super::{App, user};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

const EXAMPLES: &str = "\
Examples:
  nightferry token create ada@example.org --name backup --scope files:read
  nightferry token create ada@example.org --name cron --scope sync --scope admin --expires-in 90d
  nightferry token create ada@example.org --name ci --scope files:write | gh secret set NIGHTFERRY_TOKEN

The token is printed once and cannot be shown again: only its hash is stored. The scope admin is effective \
while the account is an administrator.";

/// Options of `token create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CreateArgs {
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

pub(super) async fn run(app: &App, context: &Context, args: CreateArgs) -> Result<Exit, Failure> {
    let owner = user::find(context, &args.email).await?;
    let wanted = Wanted { name: args.name, scopes: args.scopes, expires_in: args.expires_in };
    let (secret, row) = personal_token::create(context, owner.id, wanted, None, &origin())
        .await
        .map_err(cannot("create the token"))?;
    let document = MadeToken::new(&secret, TokenView::new(&row, context.clock.now()));
    app.output.note(&format!("Created the token {} for {}. It is shown only once:", row.id, owner.email));
    app.output.result(&document, |_| document.token.clone())?;
    Ok(Exit::Ok)
}
