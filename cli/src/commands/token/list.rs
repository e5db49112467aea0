//! `nightferry token list`: the tokens of an account that were not revoked.

use clap::Args;
use nightferry_core::auth::personal_token;
use nightferry_core::context::Context;
use serde::Serialize;

use super::{App, TokenDocument, user};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Align, Table, plain};
use crate::output::Look;

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

#[derive(Serialize)]
struct Document {
    tokens: Vec<TokenDocument>,
}

pub(super) async fn run(app: &App, context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let owner = user::find(context, &args.email).await?;
    let rows = personal_token::list(context, owner.id).await.map_err(cannot("list the tokens"))?;
    let now = context.clock.now();
    let document = Document { tokens: rows.iter().map(|row| TokenDocument::of(row, now)).collect() };
    app.output.result(&document, |look| text(&document.tokens, look))?;
    if rows.is_empty() {
        app.output.note(&format!("{} has no personal access tokens.", owner.email));
    }
    Ok(Exit::Ok)
}

fn text(tokens: &[TokenDocument], look: Look) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("SCOPES", Align::Left),
        ("STATE", Align::Left),
        ("CREATED", Align::Left),
        ("EXPIRES", Align::Left),
        ("LAST USED", Align::Left),
        ("ID", Align::Left),
    ]);
    for token in tokens {
        table.row([
            plain(&token.name),
            token.scopes.join(" "),
            look.state(token.state),
            look.zone.show(token.created_at),
            token.expires_at.map_or_else(|| "never".to_owned(), |at| look.zone.show(at)),
            token.last_used_at.map_or_else(|| "never".to_owned(), |at| look.zone.show(at)),
            token.id.clone(),
        ]);
    }
    table.render()
}
