//! How the launchers tell what they do: the only way out for words in this folder.

use std::io::{IsTerminal as _, Write as _};

/// One thing worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    /// A step that was done or is being done.
    Step(&'a str),
    /// How far a long step is; each one replaces the one before.
    Progress(&'a str),
    /// Something a person should know although work goes on.
    Warning(&'a str),
}

/// Receives what the launchers have to tell.
pub trait Reporter: Send + Sync {
    /// Tells one thing.
    fn tell(&self, notice: Notice<'_>);
}

/// Tells nothing: for tests and for quiet commands.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Reporter for Quiet {
    fn tell(&self, _: Notice<'_>) {}
}

/// Lines on standard error; progress is redrawn in place on a terminal and left out elsewhere.
#[derive(Debug, Default, Clone, Copy)]
pub struct StderrLines;

impl Reporter for StderrLines {
    fn tell(&self, notice: Notice<'_>) {
        let mut stderr = std::io::stderr().lock();
        let terminal = stderr.is_terminal();
        // A closed standard error must not stop the servers, and there is nowhere left to say so.
        let _ = match notice {
            Notice::Progress(_) if !terminal => Ok(()),
            Notice::Progress(text) => write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush()),
            Notice::Step(text) if terminal => writeln!(stderr, "\r\x1b[2K{text}"),
            Notice::Step(text) => writeln!(stderr, "{text}"),
            Notice::Warning(text) if terminal => writeln!(stderr, "\r\x1b[2Kwarning: {text}"),
            Notice::Warning(text) => writeln!(stderr, "warning: {text}"),
        };
    }
}
