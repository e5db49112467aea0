//! `nightferry user identities` and `user unlink`: who of a provider elsewhere signs in to an account.

use chrono::{DateTime, Utc};
use clap::Args;
use nightferry_core::auth::identities;
use nightferry_core::config::AuthConfig;
use nightferry_core::context::Context;
use nightferry_core::db::identities::Identity;
use serde::Serialize;

use super::{App, UserArgs, find};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Align, Table, plain};
use crate::output::Look;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry user identities ada@example.org
  nightferry --json user identities ada@example.org | jq -r '.identities[].id'

To take one away: user unlink EMAIL ID.";

const UNLINK_EXAMPLES: &str = "\
Examples:
  nightferry user unlink ada@example.org google/1234567890

All sessions of the account end. Whoever was linked comes back at the next sign-in where the provider has link_by_email: to
keep somebody out, disable the account.";

/// Options of `user unlink`.
#[derive(Debug, Args)]
#[command(after_help = UNLINK_EXAMPLES)]
pub struct UnlinkArgs {
    /// The account's email address
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Who, as `user identities` lists them
    #[arg(value_name = "PROVIDER/ID")]
    identity: String,
}

#[derive(Serialize)]
struct IdentityDocument {
    id: String,
    provider: String,
    issuer: String,
    subject: String,
    email: String,
    created_at: DateTime<Utc>,
    last_used_at: DateTime<Utc>,
}

impl IdentityDocument {
    fn of(auth: &AuthConfig, row: Identity) -> Self {
        Self {
            id: identities::id(auth, &row),
            provider: identities::provider(auth, &row).to_owned(),
            issuer: row.issuer,
            subject: row.subject,
            email: row.email,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

#[derive(Serialize)]
struct ListDocument {
    identities: Vec<IdentityDocument>,
}

#[derive(Serialize)]
struct UnlinkDocument {
    unlinked: IdentityDocument,
    sessions: usize,
}

pub(super) async fn list(app: &App, context: &Context, args: &UserArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let rows = identities::list(context, user.id).await.map_err(cannot("list the identities"))?;
    let auth = &context.config.auth;
    let document =
        ListDocument { identities: rows.into_iter().map(|row| IdentityDocument::of(auth, row)).collect() };
    app.output.result(&document, |look| text(&document.identities, look))?;
    if document.identities.is_empty() {
        app.output.note(&format!("{} signs in with no provider elsewhere.", user.email));
    }
    Ok(Exit::Ok)
}

pub(super) async fn unlink(app: &App, context: &Context, args: &UnlinkArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (row, sessions) = identities::unlink(context, user.id, &args.identity, &origin())
        .await
        .map_err(cannot(format!("unlink {}", args.identity)))?;
    let document = UnlinkDocument { unlinked: IdentityDocument::of(&context.config.auth, row), sessions };
    app.output.result(&document, |_: Look| {
        format!(
            "{}: {} is not linked any more, sessions ended: {sessions}.",
            user.email,
            plain(&args.identity)
        )
    })?;
    Ok(Exit::Ok)
}

fn text(identities: &[IdentityDocument], look: Look) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("ADDRESS THERE", Align::Left),
        ("LINKED", Align::Left),
        ("LAST USED", Align::Left),
    ]);
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
