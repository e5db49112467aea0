//! All output of the program: results to standard output, everything else to standard error. In JSON mode, standard
//! output contains exactly one document, also if the command fails.

use std::io::{self, IsTerminal as _, Write as _};

use console::Style;
pub(crate) use nightferry_api_types::document;
use serde::Serialize;

use crate::args::GlobalArgs;
use crate::documents::error_document;
use crate::errors::{Exit, Failure};
use crate::format::time::Zone;

/// How values are formatted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextStyle {
    /// Whether standard output supports colours.
    pub(crate) color: bool,
    pub(crate) zone: Zone,
}

impl TextStyle {
    /// The text in a colour, if colours are enabled.
    pub(crate) fn paint(self, style: &Style, text: &str) -> String {
        style.clone().force_styling(self.color).apply_to(text).to_string()
    }

    /// A state, coloured by its meaning.
    pub(crate) fn state(self, state: &str) -> String {
        let style = match state {
            "succeeded" | "present" | "ok" | "active" | "up" => Style::new().green(),
            "failed" | "lost" | "suspect" | "missing" | "down" => Style::new().red(),
            "partial" | "cancelled" | "disabled" | "interrupted" | "differs" => Style::new().yellow(),
            "running" | "copying" | "draining" => Style::new().cyan(),
            _ => return state.to_owned(),
        };
        self.paint(&style, state)
    }
}

/// Where a command prints, and how much.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    /// The command with which the operator runs this program, for suggestions that can be pasted.
    invocation: String,
}

impl Output {
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        let &GlobalArgs { json, quiet, verbose, .. } = global;
        Self { json, quiet, verbose, invocation: invocation(global) }
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// Whether only results and errors are printed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn draws_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// The format for text on standard output.
    pub(crate) fn look(&self) -> TextStyle {
        TextStyle {
            color: !self.json && console::colors_enabled() && io::stdout().is_terminal(),
            zone: Zone::Local,
        }
    }

    /// The command line for `command`, with the options of this invocation.
    pub(crate) fn command(&self, command: &str) -> String {
        format!("{} {command}", self.invocation)
    }

    /// Prints the result of a command that succeeds: the document, or the text.
    pub(crate) fn result(
        &self,
        document: &impl Serialize,
        text: impl FnOnce(TextStyle) -> String,
    ) -> Result<Exit, Failure> {
        self.show(|| serde_json::to_string_pretty(document), text)?;
        Ok(Exit::Ok)
    }

    /// Prints one of many results: a document on its own line, or the text.
    pub(crate) fn line(
        &self,
        document: &impl Serialize,
        text: impl FnOnce(TextStyle) -> String,
    ) -> Result<(), Failure> {
        self.show(|| serde_json::to_string(document), text)
    }

    fn show(
        &self,
        json: impl FnOnce() -> serde_json::Result<String>,
        text: impl FnOnce(TextStyle) -> String,
    ) -> Result<(), Failure> {
        if !self.json {
            return print(&text(self.look()));
        }
        print(&json().map_err(not_json)?)
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a message on standard error, unless quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// Prints a message on standard error that ends with a command of this program, unless quiet.
    pub(crate) fn note_command(&self, text: &str, command: &str) {
        self.note(&format!("{text}: {}", self.command(command)));
    }

    /// Prints a detail on standard error, only if verbose.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            say(&style_stderr(&Style::new().dim(), text));
        }
    }

    pub(crate) fn warning(&self, text: &str) {
        if !self.quiet {
            say(&format!("{} {text}", style_stderr(&Style::new().yellow().bold(), "warning:")));
        }
    }

    /// Prints a warning that ends with a command of this program.
    pub(crate) fn warning_command(&self, text: &str, command: &str) {
        self.warning(&format!("{text}: {}", self.command(command)));
    }

    /// Prints why a command failed, as text on standard error or as the JSON document.
    pub(crate) fn error(&self, failure: &Failure) {
        self.problem(failure);
        if self.json {
            print_document(failure, &self.invocation);
        }
    }

    /// Prints the document for a command line that could not be parsed, and therefore has no options.
    pub(crate) fn document_of(failure: &Failure) {
        print_document(failure, "nightferry");
    }

    /// The end of a document that was started and cannot be completed: the last member of an object, and its brace.
    pub(crate) fn interrupted(&self, failure: &Failure) -> String {
        let error = serde_json::to_string(&error_document(failure, &self.invocation));
        error
            .ok()
            .and_then(|error| error.strip_prefix('{').map(|rest| format!(",{rest}")))
            .unwrap_or_else(|| "}".to_owned())
    }

    /// Prints an error of a command whose result has already been printed.
    pub(crate) fn problem(&self, failure: &Failure) {
        let head = style_stderr(&Style::new().red().bold(), "error:");
        say(&format!("{head} {}", failure_text(failure, &self.invocation)));
    }
}

/// For `map_err`: why a result cannot be printed.
pub(crate) fn not_json(error: serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, "internal", "Cannot write the result as JSON").because(error)
}

fn print_document(failure: &Failure, invocation: &str) {
    // If this fails, standard output is closed, and the error has already been printed.
    if let Ok(document) = serde_json::to_string_pretty(&error_document(failure, invocation)) {
        let _ = print(&document);
    }
}

/// The program with the options that select the installation, unless they contain a secret.
fn invocation(global: &GlobalArgs) -> String {
    let mut words = "nightferry".to_owned();
    if let Some(file) = &global.config {
        words.extend([" --config ", &shell_word(&file.display().to_string())]);
    }
    if let Some(url) = &global.database_url {
        words.extend([" --database-url ", &shell_word(&without_password(url))]);
    }
    words
}

/// `postgres://user:password@host/db` as `postgres://user:PASSWORD@host/db`.
fn without_password(url: &str) -> String {
    let parts = || {
        let (scheme, rest) = url.split_once("://")?;
        let (credentials, place) = rest.rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:PASSWORD@{place}"))
    };
    // URLs of any other form may contain a password elsewhere.
    if !url.starts_with("postgres") || url.contains("password=") {
        return "URL".to_owned();
    }
    parts().unwrap_or_else(|| url.to_owned())
}

/// Prints text on standard output unchanged: a result, or a part of one that is too long for memory. A closed pipe (`|
/// head`) is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, "output", "Cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}

/// The text of a failure: what happened, why, and what to do next.
pub(crate) fn failure_text(failure: &Failure, invocation: &str) -> String {
    let mut text = failure.what.clone();
    if let Some(why) = &failure.why {
        text.extend(["\n  why:  ", &why.trim_end().replace('\n', "\n        ")]);
    }
    for problem in &failure.problems {
        text.extend(["\n\n  ", &problem.key, " ", &problem.message]);
        text.extend(["\n    from: ", &problem.source, "\n    fix:  ", &problem.fix]);
    }
    if !failure.problems.is_empty() && !failure.next.is_empty() {
        text.push('\n');
    }
    for (place, next) in failure.next.iter().enumerate() {
        let command = next.command.as_ref().map(|command| format!(": {invocation} {command}"));
        text.extend([if place == 0 { "\n  next: " } else { "\n        " }, &next.text]);
        text.extend(command);
    }
    text
}

/// A word quoted for the shell.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn style_stderr(style: &Style, text: &str) -> String {
    style.clone().for_stderr().apply_to(text).to_string()
}

fn say(text: &str) {
    // If standard error is closed, there is no place to report it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use nightferry_core::config::{Config, LoadOptions};
    use nightferry_core::error::Error;
    use nightferry_core::ids::RunId;

    use super::*;
    use crate::errors::cannot;

    #[test]
    fn a_failure_says_what_why_and_what_next() {
        let run: RunId = "0199f0a0-0000-7000-8000-000000000001".parse().unwrap();
        let failure = cannot("start a sync")(Error::SyncAlreadyRunning(run));
        insta::assert_snapshot!(failure_text(&failure, "nightferry --config my.toml"));
    }

    #[test]
    fn a_failure_as_a_document() {
        let failure = cannot("list the runs")(Error::DatabaseUnavailable("connection refused".to_owned()));
        insta::assert_json_snapshot!(error_document(&failure, "nightferry --config my.toml"));
    }

    #[test]
    fn an_interrupted_document_is_still_valid() {
        let output = Output::new(&GlobalArgs { json: true, ..GlobalArgs::default() });
        let failure = cannot("list the files")(Error::DatabaseUnavailable("gone".to_owned()));
        let document = format!("{{\"items\":[1,2]{}", output.interrupted(&failure));
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["items"], serde_json::json!([1, 2]));
        assert_eq!(document["error"]["kind"], "database_unavailable");
    }

    #[test]
    fn configuration_errors_are_printed_all_together() {
        let overrides = vec![
            ("server.port".to_owned(), "eighty".to_owned()),
            ("server.prot".to_owned(), "80".to_owned()),
        ];
        let errors = Config::load(LoadOptions { overrides, ..LoadOptions::default() }).unwrap_err();
        let mut failure = Failure::from(errors).advise_command("try it on this machine", "up");
        // The rest are missing settings, which depend on the configuration.
        failure.what = "The configuration has 2 problems".to_owned();
        failure.problems.truncate(2);
        insta::assert_snapshot!(failure_text(&failure, "nightferry"));
    }

    #[test]
    fn advice_names_the_installation_without_its_password() {
        let global = |url: &str| GlobalArgs {
            config: Some("my.toml".into()),
            database_url: Some(url.to_owned()),
            ..GlobalArgs::default()
        };
        let cases = [
            ("postgres://me:s@cret@db/nf", "postgres://me:PASSWORD@db/nf"),
            ("postgres://me@db/nf", "postgres://me@db/nf"),
            ("host=db password=secret", "URL"),
            ("postgres://db/nf?password=secret", "URL"),
        ];
        for (url, shown) in cases {
            let expected = format!("nightferry --config my.toml --database-url {}", shell_word(shown));
            assert_eq!(invocation(&global(url)), expected);
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell_only_where_needed() {
        assert_eq!(shell_word("nightferry-data/nightferry.toml"), "nightferry-data/nightferry.toml");
        assert_eq!(shell_word("my data"), "'my data'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }
}
