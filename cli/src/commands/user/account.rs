//! `nightferry user create`, `show`, `promote`, `demote`, `disable`, `enable`, `quota` and `reset-password`. A password is
//! prompted for or read from standard input, never taken from the command line, where other users could see it.

use clap::Args;
use nightferry_api_types::account::Account;
use nightferry_core::auth::Accounts;
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::context::Context;
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::users::User;
use nightferry_core::db::{signed, unsigned};

use super::{App, UserArgs, find, secret, shown};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{pairs, plain};
use crate::format::{amount, bytes};
use crate::output::{TextStyle, document};

const CREATE_EXAMPLES: &str = "\
Examples:
  nightferry user create ada@example.org --admin
  nightferry user create ada@example.org --name \"Ada Lovelace\"
  pass show nightferry/ada | nightferry user create ada@example.org --password-stdin

Passwords have 8 to 71 bytes. Without --password-stdin, the command prompts for the password.";

#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
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

pub(super) async fn create(app: &App, accounts: &Accounts, args: CreateArgs) -> Result<Exit, Failure> {
    let password = secret::read(&args.email, args.password_stdin, "user create").await?;
    let role = if args.admin { UserRole::Admin } else { UserRole::User };
    let new = NewAccount { email: args.email, password, name: args.name, role };
    let user = account::create(accounts, new, None, &origin()).await.map_err(cannot("create the account"))?;
    let kind = if args.admin { "administrator" } else { "account" };
    shown(app, &user, &format!("Created the {kind} {}.", user.email))
}

pub(super) async fn show(app: &App, context: &Context, args: &UserArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    app.output.result(&document!(user: Account::from(&user)), |look| text(&user, look))
}

fn text(user: &User, look: TextStyle) -> String {
    let state = match user.disabled_at {
        Some(since) => format!("{} since {}", look.state("disabled"), look.zone.show(since)),
        None => look.state("active"),
    };
    let quota = user.quota_bytes.map_or_else(|| "no limit".to_owned(), |quota| bytes::human(unsigned(quota)));
    pairs(&[
        ("Email", plain(&user.email)),
        ("Name", plain(&user.name)),
        ("Role", user.role.to_string()),
        ("State", state),
        ("Used", bytes::human(unsigned(user.used_bytes))),
        ("Quota", quota),
        ("Since", look.zone.show(user.created_at)),
        ("Id", user.id.to_string()),
    ])
}

pub(super) const PROMOTE_EXAMPLES: &str = "\
Examples:
  nightferry user promote ada@example.org
  nightferry user demote ada@example.org     undo it";

pub(super) const DISABLE_EXAMPLES: &str = "\
Examples:
  nightferry user disable ada@example.org
  nightferry user enable ada@example.org     undo it";

/// What an account becomes.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    Administrator,
    Ordinary,
    Disabled,
    Enabled,
}

pub(super) async fn change(app: &App, context: &Context, args: &UserArgs, to: To) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let is_disabled = user.disabled_at.is_some();
    let role = |role: UserRole| (user.role == role, Change::role(role));
    let ((is_so, change), word) = match to {
        To::Administrator => (role(UserRole::Admin), "an administrator"),
        To::Ordinary => (role(UserRole::User), "an ordinary account"),
        To::Disabled => ((is_disabled, Change::disabled(true)), "disabled"),
        To::Enabled => ((!is_disabled, Change::disabled(false)), "enabled"),
    };
    if is_so {
        return shown(app, &user, &format!("{} was already {word}.", user.email));
    }
    let changed = administration::change(context, user.id, change, None, &origin()).await;
    let user = changed.map_err(cannot("change the account"))?;
    let rest = if matches!(to, To::Disabled) { ": its sessions ended, its files are kept" } else { "" };
    shown(app, &user, &format!("{} is now {word}{rest}.", user.email))
}

const QUOTA_EXAMPLES: &str = "\
Examples:
  nightferry user quota ada@example.org 10GiB
  nightferry user quota ada@example.org none     no limit

A quota below the current usage deletes nothing; it only rejects new uploads.";

#[derive(Debug, Args)]
#[command(after_help = QUOTA_EXAMPLES)]
pub(crate) struct QuotaArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Maximum storage: a size such as 10GiB (2^30) or 10GB (10^9), or none
    #[arg(value_name = "SIZE", value_parser = parse_quota)]
    quota: Quota,
}

/// A limit or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quota(Option<u64>);

fn parse_quota(text: &str) -> Result<Quota, String> {
    match text {
        "none" => Ok(Quota(None)),
        // Zero is allowed: an account that only reads.
        "0" | "0B" => Ok(Quota(Some(0))),
        size => amount::size(size).map(|size| Quota(Some(size))).map_err(|wrong| format!("{wrong}, or none")),
    }
}

pub(super) async fn quota(app: &App, context: &Context, args: &QuotaArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let wanted = Change::quota(args.quota.0.map(signed));
    let user = administration::change(context, user.id, wanted, None, &origin())
        .await
        .map_err(cannot("set the quota"))?;
    let in_use = bytes::human(unsigned(user.used_bytes));
    let done = match args.quota.0 {
        Some(quota) => format!("{} can store {}; {in_use} are used.", user.email, bytes::human(quota)),
        None => format!("{} can store an unlimited amount; {in_use} are used.", user.email),
    };
    shown(app, &user, &done)
}

const RESET_EXAMPLES: &str = "\
Examples:
  nightferry user reset-password ada@example.org
  pass show nightferry/ada | nightferry user reset-password ada@example.org --password-stdin

Passwords have 8 to 71 bytes. All sessions of the account end immediately; its personal access tokens \
remain valid: `user revoke --tokens`. A disabled account stays disabled: `user enable`.";

#[derive(Debug, Args)]
#[command(after_help = RESET_EXAMPLES)]
pub(crate) struct ResetPasswordArgs {
    /// Email address of the account
    #[arg(value_name = "EMAIL")]
    email: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) async fn reset_password(
    app: &App,
    accounts: &Accounts,
    args: ResetPasswordArgs,
) -> Result<Exit, Failure> {
    let user = find(&accounts.context, &args.email).await?;
    let password = secret::read(&user.email, args.password_stdin, "user reset-password").await?;
    account::set_password(accounts, user.id, password, &origin())
        .await
        .map_err(cannot("set the password"))?;
    shown(app, &user, &format!("{} has a new password, and its sessions have ended.", user.email))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_size_or_none() {
        assert_eq!(parse_quota("10GiB"), Ok(Quota(Some(10 * 1024 * 1024 * 1024))));
        assert_eq!(parse_quota("10GB"), Ok(Quota(Some(10_000_000_000))));
        assert_eq!(parse_quota("none"), Ok(Quota(None)));
        assert_eq!(parse_quota("0"), Ok(Quota(Some(0))));
        for wrong in ["", "10", "10G", "-1GB", "never"] {
            assert!(parse_quota(wrong).is_err(), "{wrong}");
        }
    }
}
