//! `nightferry user promote` and `demote`.

use nightferry_core::auth::administration::{self, Change};
use nightferry_core::context::Context;
use nightferry_core::db::enums::UserRole;

use super::{App, UserArgs, find, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry user promote ada@example.org
  nightferry user demote ada@example.org     take it back";

pub(super) async fn run(
    app: &App,
    context: &Context,
    args: &UserArgs,
    promote: bool,
) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    let (role, word) =
        if promote { (UserRole::Admin, "an administrator") } else { (UserRole::User, "an ordinary account") };
    if user.role == role {
        return show(app, &user, &format!("{} was {word} already.", user.email));
    }
    let changed = administration::change(context, user.id, Change::role(role), None, &origin()).await;
    let user = changed.map_err(cannot("change the role"))?;
    show(app, &user, &format!("{} is {word} now.", user.email))
}
