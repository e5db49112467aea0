//! `nightferry user promote`, `demote`, `disable` and `enable`.

use nightferry_core::auth::administration::{self, Change};
use nightferry_core::context::Context;
use nightferry_core::db::enums::UserRole;

use super::{App, UserArgs, find, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

pub(super) const PROMOTE_EXAMPLES: &str = "\
Examples:
  nightferry user promote ada@example.org
  nightferry user demote ada@example.org     undo it";

pub(super) const DISABLE_EXAMPLES: &str = "\
Examples:
  nightferry user disable ada@example.org
  nightferry user enable ada@example.org     undo it";

/// The change of an account.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    Administrator,
    Ordinary,
    Disabled,
    Enabled,
}

pub(super) async fn run(app: &App, context: &Context, args: &UserArgs, to: To) -> Result<Exit, Failure> {
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
        return show(app, &user, &format!("{} was already {word}.", user.email));
    }
    let changed = administration::change(context, user.id, change, None, &origin()).await;
    let user = changed.map_err(cannot("change the account"))?;
    let rest = if matches!(to, To::Disabled) { ": its sessions ended, its files are kept" } else { "" };
    show(app, &user, &format!("{} is now {word}{rest}.", user.email))
}
