//! `nightferry user show`: one account.

use nightferry_api_types::account::Account;
use nightferry_core::context::Context;
use nightferry_core::db::unsigned;
use nightferry_core::db::users::User;

use super::{App, UserArgs, find};
use crate::errors::{Exit, Failure};
use crate::format::bytes;
use crate::format::table::{pairs, plain};
use crate::output::{TextStyle, document};

pub(super) async fn run(app: &App, context: &Context, args: &UserArgs) -> Result<Exit, Failure> {
    let user = find(context, &args.email).await?;
    app.output.result(&document!(user: Account::from(&user)), |look| text(&user, look))?;
    Ok(Exit::Ok)
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
