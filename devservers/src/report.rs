//! How the launchers report what they do: the only output of this folder.

use std::io::{IsTerminal as _, Write as _};

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// A step that has been or is being done.
    Step(&'a str),
    /// The progress of a long step; each message replaces the previous one.
    Progress(&'a str),
    /// A warning; work continues.
    Warning(&'a str),
}

/// Receives the messages of the launchers.
pub trait Reporter: Send + Sync {
    /// Reports one message.
    fn tell(&self, notice: Notice<'_>);
}

/// Discards messages: for tests and for quiet commands.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Reporter for Quiet {
    fn tell(&self, _: Notice<'_>) {}
}

/// Lines on standard error; progress is redrawn in place on a terminal and omitted elsewhere.
#[derive(Debug, Default, Clone, Copy)]
pub struct StderrLines;

impl Reporter for StderrLines {
    fn tell(&self, notice: Notice<'_>) {
        let mut stderr = std::io::stderr().lock();
        let terminal = stderr.is_terminal();
        let start = if terminal { "\r\x1b[2K" } else { "" };
        // A closed standard error must not stop the servers, and there is no place to report it.
        let _ = match notice {
            Notice::Progress(_) if !terminal => Ok(()),
            Notice::Progress(text) => write!(stderr, "{start}{text}").and_then(|()| stderr.flush()),
            Notice::Step(text) => writeln!(stderr, "{start}{text}"),
            Notice::Warning(text) => writeln!(stderr, "{start}warning: {text}"),
        };
    }
}
