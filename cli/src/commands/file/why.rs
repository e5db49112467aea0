//! `nightferry file why`: one file's replicas, the rule that decided, and the next step.

use chrono::{DateTime, Utc};
use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::unsigned;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::placement::{self, Placement};
use serde::Serialize;

use super::App;
use super::restore_archive::{RestoreDocument, sentence};
use crate::documents::ReplicaDocument;
use crate::errors::{Exit, Failure, cannot};
use crate::format::bytes;
use crate::format::table::{Align, Table, pairs, plain};
use crate::output::Look;

const EXAMPLES: &str = "\
Examples:
  nightferry file why 0199f0a0-0000-7000-8000-000000000001
  nightferry --json file why FILE-ID | jq .next";

/// Options of `file why`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct WhyArgs {
    /// The file's id, as the API shows it
    #[arg(value_name = "FILE-ID")]
    file: FileId,
}

#[derive(Serialize)]
struct Document {
    file: FileDocument,
    replicas: Vec<ReplicaDocument>,
    restores: Vec<RestoreDocument>,
    rule: String,
    next: NextDocument,
}

#[derive(Serialize)]
struct FileDocument {
    id: String,
    owner_id: String,
    filename: String,
    version: i32,
    file_size: u64,
    content_type: String,
    storage_location: String,
    pinned: bool,
    uploaded_at: DateTime<Utc>,
    synced_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct NextDocument {
    action: &'static str,
    at: Option<DateTime<Utc>>,
    because: String,
}

pub(super) async fn run(app: &App, context: &Context, args: &WhyArgs) -> Result<Exit, Failure> {
    let placement = placement::explain(context, args.file, None)
        .await
        .map_err(cannot(format!("explain the file {}", args.file)))?;
    app.output.result(&document(&placement), |look| text(&placement, look))?;
    Ok(Exit::Ok)
}

fn document(placement: &Placement) -> Document {
    let file = &placement.file;
    Document {
        file: FileDocument {
            id: file.id.to_string(),
            owner_id: file.owner_id.to_string(),
            filename: file.filename.clone(),
            version: file.current_version,
            file_size: unsigned(file.file_size),
            content_type: file.content_type.clone(),
            storage_location: file.storage_location.clone(),
            pinned: file.pinned,
            uploaded_at: file.uploaded_at,
            synced_at: file.synced_at,
            deleted_at: file.deleted_at,
        },
        replicas: placement.replicas.iter().map(ReplicaDocument::of).collect(),
        restores: placement.restores.iter().map(RestoreDocument::of).collect(),
        rule: placement.rule.clone(),
        next: NextDocument {
            action: placement.next.action,
            at: placement.next.at,
            because: placement.next.because.clone(),
        },
    }
}

fn text(placement: &Placement, look: Look) -> String {
    let file = &placement.file;
    let home = match file.synced_at {
        Some(at) => format!("{}, where it arrived {}", file.storage_location, look.zone.show(at)),
        None => file.storage_location.clone(),
    };
    let when = placement.next.at.map(|at| format!(" ({})", look.zone.show(at))).unwrap_or_default();
    let facts = pairs(&[
        ("file", format!("{} ({})", plain(&file.filename), file.id)),
        ("owner", file.owner_id.to_string()),
        ("version", format!("{}, {}", file.current_version, bytes::human(unsigned(file.file_size)))),
        ("uploaded", look.zone.show(file.uploaded_at)),
        ("home", home),
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

fn replicas(placement: &Placement, look: Look) -> String {
    let mut table = Table::new(&[
        ("STORE", Align::Left),
        ("STATE", Align::Left),
        ("VERIFIED", Align::Left),
        ("ENCRYPTED", Align::Left),
        ("ATTEMPTS", Align::Right),
        ("LAST ERROR", Align::Left),
    ]);
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
