//! `nightferry file why`: the replicas of a file, the rule that applies, and the next step.

use clap::Args;
use nightferry_api_types::placement::{ExplainedFile, ExplainedReplica, ExplainedRestore, NextStep};
use nightferry_core::context::Context;
use nightferry_core::db::unsigned;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::placement::{self, Placement};

use super::App;
use super::restore_archive::sentence;
use crate::errors::{Exit, Failure, cannot};
use crate::format::bytes;
use crate::format::table::{Table, pairs, plain};
use crate::output::{TextStyle, document};

const EXAMPLES: &str = "\
Examples:
  nightferry file why 0199f0a0-0000-7000-8000-000000000001
  nightferry --json file why FILE-ID | jq .next";

/// Options of `file why`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WhyArgs {
    /// The id of the file
    #[arg(value_name = "FILE-ID")]
    file: FileId,
}

pub(super) async fn run(app: &App, context: &Context, args: &WhyArgs) -> Result<Exit, Failure> {
    let placement = placement::explain(context, args.file, None)
        .await
        .map_err(cannot(format!("explain the file {}", args.file)))?;
    let document = document!(
        file: ExplainedFile::from(&placement.file),
        replicas: placement.replicas.iter().map(ExplainedReplica::from).collect::<Vec<_>>(),
        restores: placement.restores.iter().map(ExplainedRestore::from).collect::<Vec<_>>(),
        rule: &placement.rule,
        next: NextStep::from(&placement.next),
    );
    app.output.result(&document, |look| text(&placement, look))?;
    Ok(Exit::Ok)
}

fn text(placement: &Placement, look: TextStyle) -> String {
    let file = &placement.file;
    let home = match file.synced_at {
        Some(at) => format!("{}, since {}", file.storage_location, look.zone.show(at)),
        None => file.storage_location.clone(),
    };
    let when = placement.next.at.map(|at| format!(" ({})", look.zone.show(at))).unwrap_or_default();
    let facts = pairs(&[
        ("file", format!("{} ({})", plain(&file.filename), file.id)),
        ("owner", file.owner_id.to_string()),
        ("version", format!("{}, {}", file.current_version, bytes::human(unsigned(file.file_size)))),
        ("uploaded", look.zone.show(file.uploaded_at)),
        ("primary location", home),
        ("rule", placement.rule.clone()),
        ("next", format!("{}{when}: {}", placement.next.action, placement.next.because)),
    ]);
    let mut text = facts;
    for restore in &placement.restores {
        text.push_str("\n\nIt ");
        text.push_str(&sentence(restore, look));
        text.push('.');
    }
    format!("{text}\n\n{}", replicas(placement, look))
}

fn replicas(placement: &Placement, look: TextStyle) -> String {
    let mut table = Table::new("STORE | STATE | VERIFIED | ENCRYPTED | > ATTEMPTS | LAST ERROR");
    for replica in &placement.replicas {
        table.row([
            replica.store.clone(),
            look.state(replica.state.as_str()),
            look.zone.show_or_dash(replica.verified_at),
            replica.key_id.clone().unwrap_or_else(|| "-".to_owned()),
            replica.attempts.to_string(),
            replica.last_error.as_deref().map_or_else(|| "-".to_owned(), plain),
        ]);
    }
    table.render()
}
