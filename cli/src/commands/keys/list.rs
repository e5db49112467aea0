//! `nightferry keys list`: the signing keys and their states.

use nightferry_api_types::key::SigningKey;
use nightferry_core::auth::{Accounts, keys};

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::Table;
use crate::output::{TextStyle, document};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry keys list
  nightferry --json keys list | jq -r '.keys[] | select(.state == \"signs\") | .created_at'

States: signs; published, until it starts to sign; verifies existing signatures; unusable: created with \
another auth.secret_key.";

pub(super) async fn run(app: &App, accounts: &Accounts) -> Result<Exit, Failure> {
    let rows = keys::list(&accounts.context).await.map_err(cannot("list the signing keys"))?;
    let (usable, unusable): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| keys::opens(accounts, row));
    let now = accounts.context.clock.now();
    let states = usable.iter().map(|row| SigningKey::new(row, keys::state(&usable, row, now)));
    let keys: Vec<_> = states.chain(unusable.iter().map(|row| SigningKey::new(row, "unusable"))).collect();
    app.output.result(&document!(keys: &keys), |look| text(&keys, look))?;
    if keys.is_empty() {
        app.output.note("There are no signing keys yet: the API creates the first one when it starts.");
    }
    Ok(Exit::Ok)
}

fn text(keys: &[SigningKey], look: TextStyle) -> String {
    let mut table = Table::new("ID | ALGORITHM | STATE | CREATED | SIGNS FROM | VERIFIES UNTIL");
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
