//! `nightferry key list`: the keys of each store, which of them are needed, and which can be removed.

use nightferry_api_types::key::EncryptionKey;
use nightferry_core::context::Context;
use nightferry_core::db::replicas;
use nightferry_core::db::unsigned;
use nightferry_core::encryption::{Keyring, MasterKey};

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::Table;
use crate::output::{TextStyle, document};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry key list
  nightferry --json key list | jq '.keys[] | select(.state == \"missing\")'

A key that no copy needs can be removed from the configuration. Copies whose key is missing are unreadable \
until it is put back.

Exit code 7 if copies need a key that is not configured.";

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let used = async {
        let mut conn = context.db.conn().await?;
        replicas::keys_in_use(&mut conn).await
    };
    let used = used.await.map_err(cannot("count the copies of each key"))?;
    let mut keys = Vec::new();
    for store in context.stores.all() {
        let active = store.keys().and_then(Keyring::active).map(MasterKey::id);
        for id in store.keys().into_iter().flat_map(Keyring::ids) {
            let state = if active == Some(id) { "active" } else { "old" };
            keys.push(EncryptionKey {
                store: store.name().to_string(),
                id: id.to_string(),
                state,
                copies: 0,
            });
        }
    }
    for used in used {
        let copies = unsigned(used.copies);
        match keys.iter_mut().find(|key| key.store == used.store && key.id == used.key_id) {
            Some(key) => key.copies = copies,
            None => keys.push(EncryptionKey { store: used.store, id: used.key_id, state: "missing", copies }),
        }
    }
    let missing = keys.iter().any(|key| key.state == "missing");
    app.output.result(&document!(keys: &keys), |look| text(&keys, look))?;
    Ok(if missing { Exit::Findings } else { Exit::Ok })
}

fn text(keys: &[EncryptionKey], look: TextStyle) -> String {
    if keys.is_empty() {
        return "No store has keys, and no copy needs one: encryption is not used.".to_owned();
    }
    let mut table = Table::new("STORE | KEY | STATE | > COPIES");
    for key in keys {
        table.row([key.store.clone(), key.id.clone(), look.state(key.state), key.copies.to_string()]);
    }
    table.render()
}
