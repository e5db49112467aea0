//! `nightferry file`: look at single files, and say where they shall be.

mod pin;
mod prefetch;
mod restore_archive;
mod why;

use clap::Subcommand;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with a file.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Say where a file is, why it is there, and what happens to it next
    Why(why::WhyArgs),
    /// Keep a file's local copies, whatever the rules for freeing them say
    Pin(pin::PinArgs),
    /// Let a file's local copies go again by the rules
    Unpin(pin::PinArgs),
    /// Bring copies of files back to the local store
    Prefetch(prefetch::PrefetchArgs),
    /// Have archived copies of files made readable, which costs money and takes hours
    RestoreArchive(restore_archive::RestoreArchiveArgs),
}

pub(super) async fn run(app: &App, command: FileCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    let result = match command {
        FileCommand::Why(args) => why::run(app, context, &args).await,
        FileCommand::Pin(args) => pin::run(app, context, &args, true).await,
        FileCommand::Unpin(args) => pin::run(app, context, &args, false).await,
        FileCommand::Prefetch(args) => prefetch::run(app, context, &args).await,
        FileCommand::RestoreArchive(args) => restore_archive::run(app, context, &args).await,
    };
    diagnosed(context, result).await
}
