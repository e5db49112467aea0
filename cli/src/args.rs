//! The command line: global options and the command tree. Defines the syntax only; the modules of the commands
//! implement them.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use crate::commands::{
    audit, catalog, completions, config, encryption_key, file, migrate, reconcile, scrub, serve, signing_key,
    store, sync, token, up, user, worker,
};

const LONG_ABOUT: &str = "\
Nightferry is self-hosted hybrid file storage: uploads are written to a fast local S3 store, and every \
night a worker copies them to a cloud S3 store, verifies each copy, and records in Postgres where every \
file is stored.

This program runs the API and the worker, and is the operator's tool. It connects to Postgres and the \
stores directly: its commands work whether or not the API is running.";

const EXAMPLES: &str = "\
Examples:
  nightferry up                          start everything on this machine, for evaluation
  nightferry sync run --wait             copy all new files to the cloud now, and follow the run
  nightferry sync status                 show the active run, the backlog, and the next scheduled run
  nightferry file why FILE-ID            show where one file is stored, why, and what happens to it next
  nightferry --json sync history | jq    every command supports JSON output

Exit codes:
  0  success
  1  failure
  2  invalid command line or configuration
  3  not found
  4  conflict: a run is already active, the account already exists, the port is in use
  5  the run that was waited for ended partial, failed or cancelled
  6  the database or a store is unreachable
  7  stored data is damaged or inconsistent: reconcile, scrub or catalog reported findings, fixed or not
  130  interrupted (Ctrl-C): stopped waiting, or stopped without a graceful shutdown

Configuration: built-in defaults < file < environment < command line. `nightferry config show` prints the \
effective settings and the source of each. Without any configuration, the commands connect to a `nightferry \
up` that is running in ./nightferry-data.";

/// Commands grouped by purpose, as shown in --help.
const GROUPS: [(&str, &[&str]); 3] = [
    ("Start and run", &["up", "serve", "worker", "migrate"]),
    ("Operate", &["sync", "file", "user", "token", "store", "reconcile", "scrub", "catalog", "audit"]),
    ("Set up", &["config", "encryption-key", "signing-key", "completions"]),
];

/// Self-hosted hybrid file storage: fast local disk, cheap cloud capacity, one namespace.
#[derive(Debug, Parser)]
#[command(name = "nightferry", version, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 120)]
#[command(disable_help_subcommand = true, subcommand_value_name = "COMMAND")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Read the configuration from this file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Override one setting; can be repeated. `config show` lists the keys
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value, action = ArgAction::Append)]
    pub(crate) set: Vec<(String, String)>,
    /// Use this database: short for --set database.url=URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Also show each step, and log to standard error
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine: Postgres, two S3 servers, API, worker
    Up(up::UpArgs),
    /// Serve the HTTP API
    Serve(serve::ServeArgs),
    /// Run the worker: start scheduled runs, copy files, verify the copies
    Worker(worker::WorkerArgs),
    /// Apply missing database migrations, or revert applied ones
    Migrate(migrate::MigrateArgs),
    #[command(flatten)]
    Operate(OperatorCommand),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Generate keys for encrypted stores, and show which are needed
    #[command(subcommand, alias = "key")]
    EncryptionKey(encryption_key::EncryptionKeyCommand),
    /// List and rotate the keys that sign access tokens
    #[command(subcommand, alias = "keys")]
    SigningKey(signing_key::SigningKeyCommand),
    /// Print a completion script for your shell
    Completions(completions::CompletionsArgs),
}

// The commands that work with the database and the stores. Not a doc comment: it would become the description of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Run, plan and inspect syncs
    #[command(subcommand)]
    Sync(sync::SyncCommand),
    /// Explain the placement of a file, pin it, prefetch it
    #[command(subcommand)]
    File(file::FileCommand),
    /// Create and change accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Create and revoke personal access tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// List, check, drain and rebalance the S3 stores
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Compare the contents of the stores with the database
    Reconcile(reconcile::ReconcileArgs),
    /// Re-read verified copies and report damaged ones
    Scrub(scrub::ScrubArgs),
    /// Write snapshots of the catalogue to the cloud store, and rebuild the database from them
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// Show the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, for example tiering.batch_size=20".to_owned()),
    }
}

/// The definition of the command line, with the commands grouped in the help.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{}\nSee `nightferry COMMAND --help` for each.\n\nOptions:\n{{options}}{{after-help}}",
        grouped(&command)
    );
    command.help_template(template)
}

fn grouped(command: &clap::Command) -> String {
    let width = command.get_subcommands().map(|sub| sub.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (heading, names) in GROUPS {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{heading}:\n");
        for sub in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:width$}  {about}", sub.get_name());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Exit;

    #[test]
    fn the_command_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_one_group() {
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let command = command();
        let mut known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }

    #[test]
    fn settings_are_split_at_the_first_equals_sign() {
        assert_eq!(key_and_value("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert_eq!(key_and_value("a.b="), Ok(("a.b".to_owned(), String::new())));
        assert!(key_and_value("a.b").is_err());
        assert!(key_and_value("=x").is_err());
    }

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        if !command.has_subcommands() {
            found.push(path.to_owned());
        }
        for sub in command.get_subcommands() {
            leaves(sub, &format!("{path} {}", sub.get_name()), found);
        }
    }

    #[test]
    fn every_command_is_in_the_documentation() {
        let guide = include_str!("../../docs/cli.md");
        let mut commands = Vec::new();
        leaves(&command(), "nightferry", &mut commands);
        for command in commands {
            assert!(guide.contains(&format!("`{command}`")), "docs/cli.md lacks {command}");
        }
    }

    #[test]
    fn help_and_documentation_list_the_exit_codes() {
        let guide = include_str!("../../docs/cli.md");
        for exit in Exit::ALL {
            let number = exit.number();
            assert!(EXAMPLES.contains(&format!("\n  {number}  ")), "--help lacks exit code {number}");
            assert!(guide.contains(&format!("\n| {number} |")), "docs/cli.md lacks exit code {number}");
        }
    }

    fn helps(command: &mut clap::Command, path: &str, text: &mut String) {
        let rendered = command.clone().term_width(100).render_long_help().to_string();
        let _ = write!(text, "$ {path} --help\n{}\n\n", rendered.trim_end());
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        for name in names {
            let sub = command.find_subcommand_mut(&name).unwrap();
            helps(sub, &format!("{path} {name}"), text);
        }
    }

    #[test]
    fn help_of_every_command() {
        let mut command = command().term_width(100);
        command.build();
        let mut text = String::new();
        helps(&mut command, "nightferry", &mut text);
        insta::assert_snapshot!(text);
    }
}
