//! `nightferry user reset-password`: sets a new password.

use clap::Args;
use nightferry_core::auth::Accounts;
use nightferry_core::auth::account;

use super::{App, find, secret, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

const EXAMPLES: &str = "\
Examples:
  nightferry user reset-password ada@example.org
  pass show nightferry/ada | nightferry user reset-password ada@example.org --password-stdin

Passwords have 8 to 71 bytes. All sessions of the account end immediately; its personal access tokens \
remain valid: `user revoke --tokens`. A disabled account stays disabled: `user enable`.";

/// Options of `user reset-password`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ResetPasswordArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) async fn run(app: &App, accounts: &Accounts, args: ResetPasswordArgs) -> Result<Exit, Failure> {
    let user = find(&accounts.context, &args.email).await?;
    let password = secret::read(&user.email, args.password_stdin, "user reset-password").await?;
    account::set_password(accounts, user.id, password, &origin())
        .await
        .map_err(cannot("set the password"))?;
    show(app, &user, &format!("{} has a new password, and its sessions have ended.", user.email))
}
