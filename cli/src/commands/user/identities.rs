//! `nightferry user identities` and `user unlink`: the identities that an account is linked to at identity providers.

use clap::Args;
use nightferry_api_types::account::IdentityView;
use nightferry_core::auth::identities;
use nightferry_core::context::Context;

use super::{App, UserArgs, find};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Table, plain};
use crate::output::{TextStyle, document};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry user identities ada@example.org
  nightferry --json user identities ada@example.org | jq -r '.identities[].id'

To unlink one: user unlink EMAIL ID.";

const UNLINK_EXAMPLES: &str = "\
Examples:
  nightferry user unlink ada@example.org google/1234567890

All sessions of the account end. If the provider has link_by_email, the identity is linked again at the \
next sign-in: to lock a user out, disable the account.";

/// Options of `user unlink`.
#[derive(Debug, Args)]
#[command(after_help = UNLINK_EXAMPLES)]
pub struct UnlinkArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// The identity, as listed by `user identities`
    #[arg(value_name = "PROVIDER/ID")]
    identity: String,
}

pub(super) async fn list(app: &App, context: &Context, args: &UserArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let rows = identities::list(context, user.id).await.map_err(cannot("list the identities"))?;
    let auth = &context.config.auth;
    let shown: Vec<_> = rows.iter().map(|row| IdentityView::new(auth, row)).collect();
    app.output.result(&document!(identities: &shown), |look| text(&shown, look))?;
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
    })?;
    Ok(Exit::Ok)
}

fn text(identities: &[IdentityView], look: TextStyle) -> String {
    let mut table = Table::new("ID | EMAIL AT PROVIDER | LINKED | LAST USED");
    for identity in identities {
        table.row([
            plain(&identity.id),
            plain(&identity.email),
            look.zone.show(identity.created_at),
            look.zone.show(identity.last_used_at),
        ]);
    }
    table.render()
}
