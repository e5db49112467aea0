//! A new password: asked for on the terminal or read from standard input, never taken from the command line, where others
//! could see it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use console::Term;
use nightferry_core::auth::password::{self, LONGEST};
use secrecy::{ExposeSecret as _, SecretString};

use crate::errors::{Exit, Failure};
use crate::output::shell_word;

/// More than any password may have; what is longer is refused, not cut.
const LONGEST_LINE: u64 = 4096;

/// The new password of `email`; `command` is the one that wants it.
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
    io::stdin().lock().take(LONGEST_LINE).read_line(&mut line).map_err(|error| cannot_read(&error))?;
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
        return Err(Failure::usage("There is no terminal to ask for the password on").advise_command(
            "pipe it in, as in `pass show x |`",
            format!("{command} {email} --password-stdin"),
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
