//! A new password: prompted for or read from standard input, never taken from the command line, where other users could
//! see it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use console::Term;
use nightferry_core::auth::password::{self, MAX_LENGTH};
use secrecy::{ExposeSecret as _, SecretString};

use crate::errors::{Exit, Failure};
use crate::output::shell_word;

/// Longer than any valid password; longer input is rejected, not truncated.
const MAX_LINE_LENGTH: u64 = 4096;

/// The new password of `email`; `command` is the calling command.
pub(super) async fn read(
    email: &str,
    from_stdin: bool,
    command: &'static str,
) -> Result<SecretString, Failure> {
    let email = email.to_owned();
    let ask = move || if from_stdin { read_line() } else { prompt(&email, command) };
    tokio::task::spawn_blocking(ask).await.map_err(|error| cannot_read(&error))?
}

fn cannot_read(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, "input", "Cannot read the password").because(error)
}

fn read_line() -> Result<SecretString, Failure> {
    let mut line = String::new();
    io::stdin().lock().take(MAX_LINE_LENGTH).read_line(&mut line).map_err(|error| cannot_read(&error))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::usage("There is no password on standard input")
            .because("its first line is empty, or nothing was piped in"));
    }
    Ok(SecretString::from(password))
}

fn prompt(email: &str, command: &str) -> Result<SecretString, Failure> {
    let terminal = Term::stderr();
    if !terminal.is_term() || !io::stdin().is_terminal() {
        let email = shell_word(email);
        return Err(Failure::usage("There is no terminal to prompt for the password").advise_command(
            "pipe it to the command, as in `pass show x |`",
            format!("{command} {email} --password-stdin"),
        ));
    }
    let ask = |question: &str| {
        terminal.write_str(question).map_err(|error| cannot_read(&error))?;
        terminal.read_secure_line().map(SecretString::from).map_err(|error| cannot_read(&error))
    };
    let password = ask(&format!("Password for {email} (8 to {MAX_LENGTH} bytes): "))?;
    if let Err(error) = password::check_rules(&password, "password") {
        return Err(Failure::usage("The password cannot be used").because(error.message));
    }
    let again = ask("Repeat the password: ")?;
    if password.expose_secret() != again.expose_secret() {
        return Err(Failure::usage("The two passwords differ").advise("run the command again"));
    }
    Ok(password)
}
