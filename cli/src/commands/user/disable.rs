//! `nightferry user disable` and `enable`.

use nightferry_core::auth::administration::{self, Change};
use nightferry_core::context::Context;

use super::{App, UserArgs, find, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry user disable ada@example.org
  nightferry user enable ada@example.org     take it back";

pub(super) async fn run(
    app: &App,
    context: &Context,
    args: &UserArgs,
    disable: bool,
) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let word = if disable { "disabled" } else { "enabled" };
    if user.disabled_at.is_some() == disable {
        return show(app, &user, &format!("{} was {word} already.", user.email));
    }
    let changed = administration::change(context, user.id, Change::disabled(disable), None, &origin()).await;
    let user = changed.map_err(cannot("change the account"))?;
    let rest = if disable { ": its sessions ended, its files stay" } else { "" };
    show(app, &user, &format!("{} is {word} now{rest}.", user.email))
}
