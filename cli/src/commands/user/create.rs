//! `nightferry user create`: the password is asked for on the terminal or read from standard input, never taken from
//! the command line, where others could see it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use clap::Args;
use console::Term;
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::auth::password::{self, LONGEST};
use nightferry_core::context::Context;
use nightferry_core::db::enums::UserRole;
use secrecy::{ExposeSecret as _, SecretString};

use super::{App, show};
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::shell_word;

const EXAMPLES: &str = "\
Examples:
  nightferry user create ada@example.org --admin
  nightferry user create ada@example.org --name \"Ada Lovelace\"
  pass show nightferry/ada | nightferry user create ada@example.org --password-stdin

Passwords have 8 to 71 bytes. Without --password-stdin it is asked for on the terminal.";

/// More than any password may have; what is longer is refused, not cut.
const LONGEST_LINE: u64 = 4096;

/// Options of `user create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CreateArgs {
    /// The account's email address
    #[arg(value_name = "EMAIL")]
    email: String,
    /// The name to show
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Make it an administrator
    #[arg(long)]
    admin: bool,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: CreateArgs) -> Result<Exit, Failure> {
    let email = args.email.clone();
    let from_stdin = args.password_stdin;
    let password = tokio::task::spawn_blocking(move || if from_stdin { read_line() } else { prompt(&email) })
        .await
        .map_err(|error| cannot_read(&error))??;
    let role = if args.admin { UserRole::Admin } else { UserRole::User };
    let new = NewAccount { email: args.email, password, name: args.name, role };
    let user = account::create(context, new, None, &origin()).await.map_err(cannot("make the account"))?;
    let kind = if args.admin { "administrator" } else { "account" };
    show(app, &user, &format!("Made the {kind} {}.", user.email))
}

fn cannot_read(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, "input", "Cannot read the password").because(error)
}

fn read_line() -> Result<SecretString, Failure> {
    let mut line = String::new();
    io::stdin().lock().take(LONGEST_LINE).read_line(&mut line).map_err(|error| cannot_read(&error))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("There is no password on standard input")
            .because("its first line is empty, or nothing was piped in"));
    }
    Ok(SecretString::from(password))
}

fn prompt(email: &str) -> Result<SecretString, Failure> {
    let terminal = Term::stderr();
    if !terminal.is_term() || !io::stdin().is_terminal() {
        let email = shell_word(email);
        return Err(Failure::usage("There is no terminal to ask for the password on").advise_command(
            "pipe it in, as in `pass show x |`",
            format!("user create {email} --password-stdin"),
        ));
    }
    let ask = |question: &str| {
        terminal.write_str(question).map_err(|error| cannot_read(&error))?;
        terminal.read_secure_line().map(SecretString::from).map_err(|error| cannot_read(&error))
    };
    let password = ask(&format!("Password for {email} (8 to {LONGEST} bytes): "))?;
    if let Err(error) = password::check_rules(&password, "password") {
        return Err(Failure::usage("The password cannot be used").because(error.message));
    }
    let again = ask("The same again: ")?;
    if password.expose_secret() != again.expose_secret() {
        return Err(Failure::usage("The two passwords are not the same").advise("run the command again"));
    }
    Ok(password)
}
