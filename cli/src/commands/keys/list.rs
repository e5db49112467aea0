//! `nightferry keys list`: the signing keys, and what each does now.

use nightferry_core::auth::Accounts;
use nightferry_core::auth::keys;
use serde::Serialize;

use super::{App, KeyDocument};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Align, Table};
use crate::output::Look;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry keys list
  nightferry --json keys list | jq -r '.keys[] | select(.state == \"signs\") | .created_at'

States: signs; published, from when it signs; verifies what it signed before; unusable: made with another auth.secret_key.";

#[derive(Serialize)]
struct Document {
    keys: Vec<KeyDocument>,
}

pub(super) async fn run(app: &App, accounts: &Accounts) -> Result<Exit, Failure> {
    let rows = keys::list(&accounts.context).await.map_err(cannot("list the signing keys"))?;
    let (usable, unusable): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| keys::opens(accounts, row));
    let now = accounts.context.clock.now();
    let states = usable.iter().map(|row| KeyDocument::of(row, keys::state(&usable, row, now)));
    let document = Document {
        keys: states.chain(unusable.iter().map(|row| KeyDocument::of(row, "unusable"))).collect(),
    };
    app.output.result(&document, |look| text(&document.keys, look))?;
    if document.keys.is_empty() {
        app.output.note("There are no signing keys yet: the API makes the first one when it starts.");
    }
    Ok(Exit::Ok)
}

fn text(keys: &[KeyDocument], look: Look) -> String {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("ALGORITHM", Align::Left),
        ("STATE", Align::Left),
        ("CREATED", Align::Left),
        ("SIGNS FROM", Align::Left),
        ("VERIFIES UNTIL", Align::Left),
    ]);
    for key in keys {
        table.row([
            key.id.clone(),
            key.algorithm.clone(),
            look.state(key.state),
            look.zone.show(key.created_at),
            look.zone.show(key.signs_from),
            key.verifies_until.map_or_else(|| "-".to_owned(), |at| look.zone.show(at)),
        ]);
    }
    table.render()
}
