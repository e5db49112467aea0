//! `nightferry store accept`: accepts the bucket of a store as the right one after its identity has changed.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::error::{Error, Noun};
use nightferry_core::object::identity;
use nightferry_core::stores::Identity;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry store accept s3            show what is wrong; changes nothing
  nightferry store accept s3 --apply    accept the configured bucket from now on

Each bucket contains a marker with the identity of its store, and the database records it. If they differ, \
the settings name another bucket, or the store was emptied: nothing is deleted from such a store, nor \
anywhere else because of its copies. Accept the bucket only if it was replaced on purpose. Afterwards, run \
`nightferry reconcile` to find the copies that it does not contain.

Exit code 4 if the bucket is that of another configured store.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AcceptArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
    /// Accept the bucket
    #[arg(long)]
    apply: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &AcceptArgs) -> Result<Exit, Failure> {
    let name = args.store.as_str();
    let act = format!("accept the bucket of the store {name}");
    let (identity, accepted) = if args.apply {
        identity::accept(context, name, None, &origin()).await.map_err(cannot(act))?
    } else {
        let store = context.stores.get(name).ok_or(Error::NotFound(Noun::Store)).map_err(cannot(act))?;
        (identity::check(context, store).await, false)
    };
    if let Identity::Unknown(why) = &identity {
        return Err(Failure::new(
            Exit::Unreachable,
            "identity_unknown",
            format!("Cannot check the identity of the store {name}"),
        )
        .because(why)
        .advise_command("see what is wrong with it", format!("store check {name}")));
    }
    let (state, reason) = (identity.word(), identity.reason());
    let document = document!(store: name, identity: state, reason: &reason, accepted: accepted);
    app.output.result(&document, |_| match &reason {
        None if accepted => format!("The bucket of {name} is accepted."),
        None => format!("{name} is the store that the database knows: there is nothing to accept."),
        Some(reason) => format!("{name} may not be the store that the database knows: {reason}."),
    })?;
    if accepted {
        app.output.note_command(
            "To find the copies that it does not contain",
            &format!("reconcile --store {name}"),
        );
    } else if identity.is_in_doubt() {
        app.output.note_command("To accept its bucket", &format!("store accept {name} --apply"));
    }
    Ok(Exit::Ok)
}
