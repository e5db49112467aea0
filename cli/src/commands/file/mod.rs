//! `nightferry file`: look at single files, and say where they shall be.

mod pin;
mod prefetch;
mod restore_archive;
mod why;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
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
    app.in_session(async |services: &Services| match command {
        FileCommand::Why(args) => why::run(app, &services.context, &args).await,
        FileCommand::Pin(args) => pin::run(app, &services.context, &args, true).await,
        FileCommand::Unpin(args) => pin::run(app, &services.context, &args, false).await,
        FileCommand::Prefetch(args) => prefetch::run(app, &services.context, &args).await,
        FileCommand::RestoreArchive(args) => restore_archive::run(app, &services.context, &args).await,
    })
    .await
}
