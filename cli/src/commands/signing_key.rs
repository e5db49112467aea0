//! `nightferry signing-key`: the keys that sign access tokens.

use clap::{Args, Subcommand};
use nightferry_api_types::key::SigningKey;
use nightferry_core::auth::Accounts;
use nightferry_core::auth::keys::{self, Takeover};
use nightferry_core::services::Services;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::table;
use crate::output::{TextStyle, document};

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeyCommand {
    /// List the keys and their states
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Create a new key that takes over
    Rotate(RotateArgs),
}

pub(super) async fn run(app: &App, services: &Services, command: SigningKeyCommand) -> Result<Exit, Failure> {
    let accounts = &services.accounts;
    match command {
        SigningKeyCommand::List => list(app, accounts).await,
        SigningKeyCommand::Rotate(args) => rotate(app, accounts, &args).await,
    }
}

const LIST_EXAMPLES: &str = "\
Examples:
  nightferry signing-key list
  nightferry --json signing-key list | jq -r '.keys[] | select(.state == \"signs\") | .created_at'

States: signs; published, until it starts to sign; verifies existing signatures; unusable: created with \
another auth.secret_key.";

async fn list(app: &App, accounts: &Accounts) -> Result<Exit, Failure> {
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
    table("ID | ALGORITHM | STATE | CREATED | SIGNS FROM | VERIFIES UNTIL", keys, |key| {
        [
            key.id.clone(),
            key.algorithm.clone(),
            look.state(key.state),
            look.zone.show(key.created_at),
            look.zone.show(key.signs_from),
            key.verifies_until.map_or_else(|| "-".to_owned(), |at| look.zone.show(at)),
        ]
    })
}

const ROTATE_EXAMPLES: &str = "\
Examples:
  nightferry signing-key rotate                                  without effect on clients
  nightferry signing-key rotate --immediately                    if a key may be compromised
  nightferry --set auth.algorithm=EdDSA signing-key rotate       with another algorithm; set it for the API too

The new key is published for auth.signing_key_lead before it signs. The old key verifies until the last token signed with it has \
expired. With --immediately, the new key signs immediately and all existing access tokens are rejected; clients continue \
with their refresh tokens. API instances apply this within 30 seconds, or at once if they are restarted.";

#[derive(Debug, Args)]
#[command(after_help = ROTATE_EXAMPLES)]
pub(crate) struct RotateArgs {
    /// Sign with the new key now, and reject everything that was signed before
    #[arg(long, alias = "at-once")]
    immediately: bool,
}

async fn rotate(app: &App, accounts: &Accounts, args: &RotateArgs) -> Result<Exit, Failure> {
    let takeover = if args.immediately { Takeover::Immediate } else { Takeover::Published };
    let row =
        keys::rotate(accounts, takeover, &origin()).await.map_err(cannot("create a new signing key"))?;
    let state = if args.immediately { "signs" } else { "published" };
    app.output.result(&document!(key: SigningKey::new(&row, state)), |look| {
        let (id, algorithm) = (&row.id, &row.algorithm);
        if args.immediately {
            format!("The {algorithm} key {id} signs now; everything signed before is rejected.")
        } else {
            format!(
                "The {algorithm} key {id} is published and will sign from {}.",
                look.zone.show(row.signs_from)
            )
        }
    })
}
