//! The library part of the `nightferry` binary. It prints only through the output module, and contains no HTTP routes
//! and no SQL.

mod args;
mod commands;
mod documents;
mod errors;
mod format;
mod output;
mod settings;
pub mod signals;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches as _;

use crate::args::Cli;
use crate::commands::App;
use crate::errors::Exit;
use crate::output::Output;

/// Runs one command line and returns its exit code.
pub fn main_with(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    let parsed = args::command().try_get_matches_from(&words).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // clap also returns the texts of --help and --version as errors. A failure to print them is ignored.
            let _ = error.print();
            if !error.use_stderr() {
                return Exit::Ok.into();
            }
            if words.iter().take_while(|word| *word != "--").any(|word| word == "--json") {
                Output::document_of(&errors::of_command_line(&error));
            }
            return Exit::Usage.into();
        }
    };
    let output = Output::new(&cli.global);
    let exit = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(commands::run(App { output, global: cli.global }, cli.command));
            // A thread that is still waiting for standard input must not delay the exit.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            output.error(&errors::Failure::new(Exit::Failed, "runtime", "Cannot start").because(error));
            Exit::Failed
        }
    };
    exit.into()
}
