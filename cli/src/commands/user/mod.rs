//! `nightferry user`: accounts.

mod account;
mod list;
mod secret;
mod sessions;

use clap::{Args, Subcommand};
use nightferry_api_types::account::Account;
use nightferry_core::context::Context;
use nightferry_core::db::users::User;
use nightferry_core::services::Services;

use self::account::To;
use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create an account
    Create(account::CreateArgs),
    /// List accounts
    List(list::ListArgs),
    /// Show an account
    Show(UserArgs),
    /// Grant the administrator role
    #[command(after_help = account::PROMOTE_EXAMPLES)]
    Promote(UserArgs),
    /// Revoke the administrator role
    Demote(UserArgs),
    /// Disable an account and end its sessions; its files are kept
    #[command(after_help = account::DISABLE_EXAMPLES)]
    Disable(UserArgs),
    /// Enable a disabled account
    Enable(UserArgs),
    /// Limit the storage of an account
    Quota(account::QuotaArgs),
    /// Set a new password and end all sessions of an account
    #[command(visible_alias = "password")]
    ResetPassword(account::ResetPasswordArgs),
    /// List the sessions of an account
    Sessions(sessions::SessionsArgs),
    /// End the sessions of an account
    Revoke(sessions::RevokeArgs),
    /// List the linked identities of an account
    #[command(after_help = sessions::IDENTITIES_EXAMPLES)]
    Identities(UserArgs),
    /// Unlink an identity from an account, and end the account's sessions
    Unlink(sessions::UnlinkArgs),
}

#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    /// Email address
    #[arg(value_name = "EMAIL")]
    email: String,
}

pub(super) async fn run(app: &App, services: &Services, command: UserCommand) -> Result<Exit, Failure> {
    let Services { context, accounts, .. } = services;
    match command {
        UserCommand::Create(args) => account::create(app, accounts, args).await,
        UserCommand::List(args) => list::run(app, context, &args).await,
        UserCommand::Show(args) => account::show(app, context, &args).await,
        UserCommand::Promote(args) => account::change(app, context, &args, To::Administrator).await,
        UserCommand::Demote(args) => account::change(app, context, &args, To::Ordinary).await,
        UserCommand::Disable(args) => account::change(app, context, &args, To::Disabled).await,
        UserCommand::Enable(args) => account::change(app, context, &args, To::Enabled).await,
        UserCommand::Quota(args) => account::quota(app, context, &args).await,
        UserCommand::ResetPassword(args) => account::reset_password(app, accounts, args).await,
        UserCommand::Sessions(args) => sessions::sessions(app, context, &args).await,
        UserCommand::Revoke(args) => sessions::revoke(app, context, &args).await,
        UserCommand::Identities(args) => sessions::identities(app, context, &args).await,
        UserCommand::Unlink(args) => sessions::unlink(app, context, &args).await,
    }
}

pub(super) async fn find(context: &Context, email: &str) -> Result<User, Failure> {
    nightferry_core::auth::account::by_email(context, email)
        .await
        .map_err(cannot(format!("find the account {email}")))
}

/// Prints an account that was created or changed, after a sentence that says what was done.
fn shown(app: &App, user: &User, done: &str) -> Result<Exit, Failure> {
    app.output.result(&document!(user: Account::from(user)), |_| done.to_owned())
}
