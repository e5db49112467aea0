//! `nightferry token`: personal access tokens, with which programs act for an account.

mod create;
mod list;
mod revoke;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use nightferry_core::auth::personal_token::{is_live, scopes_of};
use nightferry_core::db::personal_tokens::PersonalToken;
use serde::Serialize;

use super::{App, diagnosed, user};
use crate::errors::{Exit, Failure};

/// What to do with personal access tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token with which a program acts for an account
    Create(create::CreateArgs),
    /// List the tokens of an account
    List(list::ListArgs),
    /// Take a token back: it is refused from then on
    Revoke(revoke::RevokeArgs),
}

pub(super) async fn run(app: &App, command: TokenCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    let result = match command {
        TokenCommand::Create(args) => create::run(app, context, args).await,
        TokenCommand::List(args) => list::run(app, context, &args).await,
        TokenCommand::Revoke(args) => revoke::run(app, context, &args).await,
    };
    diagnosed(context, result).await
}

/// A token for programs, without its secret.
#[derive(Serialize)]
struct TokenDocument {
    id: String,
    name: String,
    scopes: Vec<String>,
    state: &'static str,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl TokenDocument {
    fn of(row: &PersonalToken, now: DateTime<Utc>) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name.clone(),
            scopes: scopes_of(row).iter().map(ToString::to_string).collect(),
            state: state_of(row, now),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        }
    }
}

fn state_of(row: &PersonalToken, now: DateTime<Utc>) -> &'static str {
    if row.revoked_at.is_some() {
        "revoked"
    } else if is_live(row, now) {
        "active"
    } else {
        "expired"
    }
}
