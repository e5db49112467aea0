//! The command line: global options and the tree of commands. Says what can be asked for; the commands' own folders
//! say what it means.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory as _, Parser, Subcommand};

use crate::commands::{
    audit, catalog, completions, config, file, key, keys, migrate, reconcile, scrub, serve, store, sync,
    token, up, user, worker,
};

const LONG_ABOUT: &str = "\
Nightferry is self-hosted hybrid file storage: uploads land on a fast local S3 store, and every night a worker ferries \
them to a cloud S3 store, proves each copy, and records in Postgres where every file is.

This one program serves the API, runs the worker, and is the operator's tool. It talks to Postgres and to the stores \
directly, so its commands work whether or not the API is up.";

const EXAMPLES: &str = "\
Examples:
  nightferry up                          start everything on this machine, to try it
  nightferry sync run --wait             ferry all new files to the cloud now, and watch
  nightferry sync status                 what runs, what waits, when the next crossing is due
  nightferry file why FILE-ID            where one file is, why, and what happens to it next
  nightferry --json sync history | jq    every command speaks JSON

Exit codes:
  0  done
  1  failed
  2  wrong command line or configuration
  3  the thing named does not exist
  4  conflict: a sync is running already, the account exists already, the port is taken
  5  the run that was waited for ended partial, failed or cancelled
  6  the database or a store cannot be reached
  7  something is wrong with what is stored: reconcile, scrub or catalog found it, mended or not
  130  interrupted (Ctrl-C): stopped waiting, or stopped without an orderly end

Configuration: built-in defaults < file < environment < command line. `nightferry config show` prints every setting in \
force and where it came from. Without any configuration, a `nightferry up` that runs in ./nightferry-data is used.";

/// Commands by what people want to do, as --help lists them.
const GROUPS: [(&str, &[&str]); 3] = [
    ("Start and run", &["up", "serve", "worker", "migrate"]),
    ("Operate", &["sync", "file", "user", "token", "store", "reconcile", "scrub", "catalog", "audit"]),
    ("Set up", &["config", "key", "keys", "completions"]),
];

/// Self-hosted hybrid file storage: fast local disk, cheap cloud capacity, one namespace.
#[derive(Debug, Parser)]
#[command(name = "nightferry", version, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 120)]
#[command(disable_help_subcommand = true, subcommand_value_name = "COMMAND")]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Read the configuration from this file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one setting (may be given several times); `config show` lists their keys
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_and_value, action = ArgAction::Append)]
    pub set: Vec<(String, String)>,
    /// Use this database: short for --set database.url=URL
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Print one JSON document instead of text for people
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Also say what is being done, and log to standard error
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: Postgres, two S3 servers, API, worker
    Up(up::UpArgs),
    /// Serve the HTTP API
    Serve(serve::ServeArgs),
    /// Ferry files: keep the schedule, copy, verify
    Worker(worker::WorkerArgs),
    /// Bring the database up to date with this version
    Migrate(migrate::MigrateArgs),
    /// Cross now, watch, look back, try again
    #[command(subcommand)]
    Sync(sync::SyncCommand),
    /// Explain where a file is, keep it here, bring it back
    #[command(subcommand)]
    File(file::FileCommand),
    /// Make and change accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make and revoke tokens with which programs act for an account
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Check the S3 stores
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Compare what lies in the stores with what the database says
    Reconcile(reconcile::ReconcileArgs),
    /// Read verified copies again, and say which are bad
    Scrub(scrub::ScrubArgs),
    /// Keep a copy of the database's knowledge in the cloud store, and rebuild it from there
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// See who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Make keys for encrypted stores, and see which are needed
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// List and rotate the keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Print a script that completes commands in your shell
    Completions(completions::CompletionsArgs),
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE, for example tiering.batch_size=20".to_owned()),
    }
}

/// The command line's definition, its commands grouped in the help.
pub fn command() -> clap::Command {
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::errors::Exit;

    #[test]
    fn the_definition_is_sound() {
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
