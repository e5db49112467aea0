//! `nightferry file`: commands for single files.

mod pin;
mod prefetch;
mod restore_archive;
mod why;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `file`.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Show where a file is stored, why, and what happens to it next
    Why(why::WhyArgs),
    /// Keep the local copies of a file, regardless of the eviction rules
    Pin(pin::PinArgs),
    /// Allow the local copies of a file to be evicted again
    Unpin(pin::PinArgs),
    /// Copy files back to the local store
    Prefetch(prefetch::PrefetchArgs),
    /// Restore archived copies of files, which takes hours and costs money
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
