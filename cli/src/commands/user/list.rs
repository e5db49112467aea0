//! `nightferry user list`: a page of accounts in the order of their creation.

use clap::Args;
use nightferry_api_types::account::Account;
use nightferry_core::auth::administration;
use nightferry_core::context::Context;
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::unsigned;
use nightferry_core::db::users::{User, UserFilter};
use nightferry_core::ids::UserId;

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::bytes;
use crate::format::table::{plain, table};
use crate::output::{TextStyle, document, shell_word};

const EXAMPLES: &str = "\
Examples:
  nightferry user list
  nightferry user list example.org --disabled
  nightferry --json user list | jq -r '.users[] | select(.role == \"admin\") | .email'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// Only accounts whose email address or name contains this
    #[arg(value_name = "TEXT")]
    search: Option<String>,
    /// Only administrators
    #[arg(long)]
    admins: bool,
    /// Only disabled accounts
    #[arg(long)]
    disabled: bool,
    /// Maximum number of accounts
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
    /// Continue after this account: the id of the last one listed before
    #[arg(long, value_name = "USER-ID")]
    after: Option<UserId>,
}

pub(super) async fn run(app: &App, context: &Context, args: &ListArgs) -> Result<Exit, Failure> {
    let filter = UserFilter {
        text: args.search.clone(),
        role: args.admins.then_some(UserRole::Admin),
        disabled: args.disabled.then_some(true),
        after: args.after,
    };
    let (users, more) = administration::list(context, &filter, i64::from(args.limit))
        .await
        .map_err(cannot("list the accounts"))?;
    let shown: Vec<_> = users.iter().map(Account::from).collect();
    app.output.result(&document!(users: shown, more: more), |look| text(&users, look))?;
    match users.last() {
        Some(last) if more => {
            let mut rest = format!("user list --limit {} --after {}", args.limit, last.id);
            for (given, flag) in [(args.admins, " --admins"), (args.disabled, " --disabled")] {
                rest.push_str(if given { flag } else { "" });
            }
            if let Some(text) = &args.search {
                rest = format!("{rest} {}", shell_word(text));
            }
            app.output.note_command("There are more", &rest);
        }
        None if args.search.is_some() || args.admins || args.disabled => {
            app.output.note("There are no matching accounts.");
        }
        None => {
            app.output.note_command("There are no accounts. Create one", "user create EMAIL --admin");
        }
        _ => {}
    }
    Ok(Exit::Ok)
}

fn text(users: &[User], look: TextStyle) -> String {
    table("EMAIL | NAME | ROLE | STATE | > USED | > QUOTA | SINCE | ID", users, |user| {
        [
            plain(&user.email),
            plain(&user.name),
            user.role.to_string(),
            look.state(if user.disabled_at.is_some() { "disabled" } else { "active" }),
            bytes::human(unsigned(user.used_bytes)),
            user.quota_bytes.map_or_else(|| "-".to_owned(), |quota| bytes::human(unsigned(quota))),
            look.zone.show(user.created_at),
            user.id.to_string(),
        ]
    })
}
