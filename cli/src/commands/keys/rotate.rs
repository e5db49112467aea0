//! `nightferry keys rotate`: a new signing key takes over, after it has been published or immediately.

use clap::Args;
use nightferry_api_types::key::SigningKey;
use nightferry_core::auth::Accounts;
use nightferry_core::auth::keys::{self, Takeover};

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry keys rotate                                  without effect on clients
  nightferry keys rotate --at-once                        if a key may be compromised
  nightferry --set auth.algorithm=EdDSA keys rotate       with another algorithm; set it for the API too

The new key is published for auth.signing_key_lead before it signs. The old key verifies until the last token \
signed with it has expired. With --at-once, the new key signs immediately and all existing access tokens are rejected; \
clients continue with their refresh tokens. API instances apply this within 30 seconds, or at once if they are restarted.";

/// Options of `keys rotate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RotateArgs {
    /// Sign with the new key now, and reject everything that was signed before
    #[arg(long)]
    at_once: bool,
}

pub(super) async fn run(app: &App, accounts: &Accounts, args: &RotateArgs) -> Result<Exit, Failure> {
    let takeover = if args.at_once { Takeover::AtOnce } else { Takeover::Published };
    let row =
        keys::rotate(accounts, takeover, &origin()).await.map_err(cannot("create a new signing key"))?;
    let state = if args.at_once { "signs" } else { "published" };
    app.output.result(&document!(key: SigningKey::new(&row, state)), |look| {
        let (id, algorithm) = (&row.id, &row.algorithm);
        if args.at_once {
            format!("The {algorithm} key {id} signs now; everything signed before is rejected.")
        } else {
            format!(
                "The {algorithm} key {id} is published and will sign from {}.",
                look.zone.show(row.signs_from)
            )
        }
    })?;
    Ok(Exit::Ok)
}
