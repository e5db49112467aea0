//! `nightferry completions`: a shell completion script.

use clap::Args;
use clap_complete::Shell;

use super::App;
use crate::args;
use crate::errors::{Exit, Failure};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry completions bash > /etc/bash_completion.d/nightferry
  nightferry completions zsh > ~/.zfunc/_nightferry
  nightferry completions fish > ~/.config/fish/completions/nightferry.fish";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(app: &App, args: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "nightferry", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    app.output.result(&document!(shell: args.shell.to_string(), script: &script), |_| script.clone())
}
