//! `nightferry token list`: the tokens of an account that have not been revoked.

use clap::Args;
use nightferry_api_types::token::TokenView;
use nightferry_core::auth::personal_token;
use nightferry_core::context::Context;

use super::{App, user};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Table, plain};
use crate::output::{TextStyle, document};

const EXAMPLES: &str = "\
Examples:
  nightferry token list ada@example.org
  nightferry --json token list ada@example.org | jq '.tokens[] | select(.state == \"expired\")'";

/// Options of `token list`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ListArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
}

pub(super) async fn run(app: &App, context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
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
    let mut table = Table::new("NAME | SCOPES | STATE | CREATED | EXPIRES | LAST USED | ID");
    for token in tokens {
        table.row([
            plain(&token.name),
            token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "),
            look.state(token.state),
            look.zone.show(token.created_at),
            token.expires_at.map_or_else(|| "never".to_owned(), |at| look.zone.show(at)),
            token.last_used_at.map_or_else(|| "never".to_owned(), |at| look.zone.show(at)),
            token.id.to_string(),
        ]);
    }
    table.render()
}
