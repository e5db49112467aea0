//! `nightferry token revoke`: revokes any account's token.

use clap::Args;
use nightferry_api_types::token::TokenView;
use nightferry_core::auth::personal_token;
use nightferry_core::context::Context;
use nightferry_core::ids::PersonalTokenId;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::plain;
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry token list ada@example.org        shows the ids
  nightferry token revoke 01941f29-7c1e-7cc2-8d3f-3a5e8f3f2b10";

/// Options of `token revoke`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RevokeArgs {
    /// The id of the token
    #[arg(value_name = "TOKEN-ID")]
    id: PersonalTokenId,
}

pub(super) async fn run(app: &App, context: &Context, args: &RevokeArgs) -> Result<Exit, Failure> {
    let row = personal_token::revoke(context, args.id, None, None, &origin())
        .await
        .map_err(cannot(format!("revoke the token {}", args.id)))?;
    let shown = TokenView::new(&row, context.clock.now());
    app.output
        .result(&document!(token: shown), |_| format!("Revoked the token \"{}\".", plain(&row.name)))?;
    Ok(Exit::Ok)
}
