//! `nightferry user`: accounts.

mod change;
mod create;
mod identities;
mod list;
mod quota;
mod reset_password;
mod revoke;
mod secret;
mod sessions;
mod show;

use clap::{Args, Subcommand};
use nightferry_api_types::account::Account;
use nightferry_core::auth::account;
use nightferry_core::context::Context;
use nightferry_core::db::users::User;
use nightferry_core::services::Services;

use self::change::To;
use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

/// Subcommands of `user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Create an account
    Create(create::CreateArgs),
    /// List accounts
    List(list::ListArgs),
    /// Show an account
    Show(UserArgs),
    /// Grant the administrator role
    #[command(after_help = change::PROMOTE_EXAMPLES)]
    Promote(UserArgs),
    /// Revoke the administrator role
    Demote(UserArgs),
    /// Disable an account and end its sessions; its files are kept
    #[command(after_help = change::DISABLE_EXAMPLES)]
    Disable(UserArgs),
    /// Enable a disabled account
    Enable(UserArgs),
    /// Limit the storage of an account
    Quota(quota::QuotaArgs),
    /// Set a new password and end all sessions of an account
    #[command(visible_alias = "password")]
    ResetPassword(reset_password::ResetPasswordArgs),
    /// List the sessions of an account
    Sessions(sessions::SessionsArgs),
    /// End the sessions of an account
    Revoke(revoke::RevokeArgs),
    /// List the linked identities of an account
    #[command(after_help = identities::EXAMPLES)]
    Identities(UserArgs),
    /// Unlink an identity from an account, and end the account's sessions
    Unlink(identities::UnlinkArgs),
}

/// The account.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// Email address
    #[arg(value_name = "EMAIL")]
    email: String,
}

pub(super) async fn run(app: &App, command: UserCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        UserCommand::Create(args) => create::run(app, &services.accounts, args).await,
        UserCommand::List(args) => list::run(app, &services.context, &args).await,
        UserCommand::Show(args) => show::run(app, &services.context, &args).await,
        UserCommand::Promote(args) => change::run(app, &services.context, &args, To::Administrator).await,
        UserCommand::Demote(args) => change::run(app, &services.context, &args, To::Ordinary).await,
        UserCommand::Disable(args) => change::run(app, &services.context, &args, To::Disabled).await,
        UserCommand::Enable(args) => change::run(app, &services.context, &args, To::Enabled).await,
        UserCommand::Quota(args) => quota::run(app, &services.context, &args).await,
        UserCommand::ResetPassword(args) => reset_password::run(app, &services.accounts, args).await,
        UserCommand::Sessions(args) => sessions::run(app, &services.context, &args).await,
        UserCommand::Revoke(args) => revoke::run(app, &services.context, &args).await,
        UserCommand::Identities(args) => identities::list(app, &services.context, &args).await,
        UserCommand::Unlink(args) => identities::unlink(app, &services.context, &args).await,
    })
    .await
}

/// Finds an account by its email address.
pub(super) async fn find(context: &Context, email: &str) -> Result<User, Failure> {
    account::by_email(context, email).await.map_err(cannot(format!("find the account {email}")))
}

/// Prints an account that was created or changed, after a sentence that describes the change.
fn show(app: &App, user: &User, done: &str) -> Result<Exit, Failure> {
    app.output.result(&document!(user: Account::from(user)), |_| done.to_owned())?;
    Ok(Exit::Ok)
}
