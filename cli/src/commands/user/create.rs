//! `nightferry user create`: the password is prompted for or read from standard input, never taken from the command
//! line, where other users could see it.

use clap::Args;
use nightferry_core::auth::Accounts;
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::db::enums::UserRole;

use super::{App, secret, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

const EXAMPLES: &str = "\
Examples:
  nightferry user create ada@example.org --admin
  nightferry user create ada@example.org --name \"Ada Lovelace\"
  pass show nightferry/ada | nightferry user create ada@example.org --password-stdin

Passwords have 8 to 71 bytes. Without --password-stdin, the command prompts for the password.";

/// Options of `user create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CreateArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Display name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Grant the administrator role
    #[arg(long)]
    admin: bool,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) async fn run(app: &App, accounts: &Accounts, args: CreateArgs) -> Result<Exit, Failure> {
    let password = secret::read(&args.email, args.password_stdin, "user create").await?;
    let role = if args.admin { UserRole::Admin } else { UserRole::User };
    let new = NewAccount { email: args.email, password, name: args.name, role };
    let user = account::create(accounts, new, None, &origin()).await.map_err(cannot("create the account"))?;
    let kind = if args.admin { "administrator" } else { "account" };
    show(app, &user, &format!("Created the {kind} {}.", user.email))
}
