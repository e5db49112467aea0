//! `nightferry user`: accounts.

mod create;
mod disable;
mod identities;
mod list;
mod promote;
mod quota;
mod reset_password;
mod revoke;
mod secret;
mod sessions;
mod show;

use clap::{Args, Subcommand};
use nightferry_core::auth::account;
use nightferry_core::context::Context;
use nightferry_core::db::users::User;

use super::{App, diagnosed};
use crate::documents::UserDocument;
use crate::errors::{Exit, Failure, cannot};
use crate::output::Look;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make an account
    Create(create::CreateArgs),
    /// List the accounts
    List(list::ListArgs),
    /// Show one account
    Show(UserArgs),
    /// Make an account an administrator
    #[command(after_help = promote::EXAMPLES)]
    Promote(UserArgs),
    /// Make an administrator an ordinary account again
    Demote(UserArgs),
    /// Lock an account and end its sessions; its files stay
    #[command(after_help = disable::EXAMPLES)]
    Disable(UserArgs),
    /// Unlock a disabled account
    Enable(UserArgs),
    /// Limit how much an account may hold
    Quota(quota::QuotaArgs),
    /// Give an account a new password and end its sessions
    #[command(visible_alias = "password")]
    ResetPassword(reset_password::ResetPasswordArgs),
    /// List where an account is signed in
    Sessions(sessions::SessionsArgs),
    /// End the sessions of an account
    Revoke(revoke::RevokeArgs),
    /// List who of a provider elsewhere signs in to an account
    #[command(after_help = identities::EXAMPLES)]
    Identities(UserArgs),
    /// Take a provider's access to an account away, and end its sessions
    Unlink(identities::UnlinkArgs),
}

/// The account meant.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// Its email address
    #[arg(value_name = "EMAIL")]
    email: String,
}

pub(super) async fn run(app: &App, command: UserCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let (context, accounts) = (&session.services.context, &session.services.accounts);
    let result = match command {
        UserCommand::Create(args) => create::run(app, accounts, args).await,
        UserCommand::List(args) => list::run(app, context, &args).await,
        UserCommand::Show(args) => show::run(app, context, &args).await,
        UserCommand::Promote(args) => promote::run(app, context, &args, true).await,
        UserCommand::Demote(args) => promote::run(app, context, &args, false).await,
        UserCommand::Disable(args) => disable::run(app, context, &args, true).await,
        UserCommand::Enable(args) => disable::run(app, context, &args, false).await,
        UserCommand::Quota(args) => quota::run(app, context, &args).await,
        UserCommand::ResetPassword(args) => reset_password::run(app, accounts, args).await,
        UserCommand::Sessions(args) => sessions::run(app, context, &args).await,
        UserCommand::Revoke(args) => revoke::run(app, context, &args).await,
        UserCommand::Identities(args) => identities::list(app, context, &args).await,
        UserCommand::Unlink(args) => identities::unlink(app, context, &args).await,
    };
    diagnosed(context, result).await
}

/// One account, for programs.
#[derive(serde::Serialize)]
struct Document {
    user: UserDocument,
}

/// Finds an account by its email address.
pub(super) async fn find(context: &Context, email: &str) -> Result<User, Failure> {
    account::by_email(context, email).await.map_err(cannot(format!("find the account {email}")))
}

/// Prints an account that was made or changed, after a sentence that says what was done.
fn show(app: &App, user: &User, done: &str) -> Result<Exit, Failure> {
    app.output.result(&Document { user: UserDocument::of(user) }, |_: Look| done.to_owned())?;
    Ok(Exit::Ok)
}
