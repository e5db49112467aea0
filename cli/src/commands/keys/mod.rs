//! `nightferry keys`: the keys that sign access tokens.

mod list;
mod rotate;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use nightferry_core::db::signing_keys::SigningKeyRow;
use serde::Serialize;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with the keys that sign access tokens.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys and what each does now
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Make a new key that takes over
    Rotate(rotate::RotateArgs),
}

pub(super) async fn run(app: &App, command: KeysCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let accounts = &session.services.accounts;
    let result = match command {
        KeysCommand::List => list::run(app, accounts).await,
        KeysCommand::Rotate(args) => rotate::run(app, accounts, &args).await,
    };
    diagnosed(&accounts.context, result).await
}

/// A key, without what is secret of it.
#[derive(Serialize)]
struct KeyDocument {
    id: String,
    algorithm: String,
    state: &'static str,
    created_at: DateTime<Utc>,
    signs_from: DateTime<Utc>,
    verifies_until: Option<DateTime<Utc>>,
}

impl KeyDocument {
    fn of(row: &SigningKeyRow, state: &'static str) -> Self {
        Self {
            id: row.id.clone(),
            algorithm: row.algorithm.clone(),
            state,
            created_at: row.created_at,
            signs_from: row.signs_from,
            verifies_until: row.verifies_until,
        }
    }
}
