//! Collects all configuration problems, so that they are reported together. No message may contain the value of a
//! secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One configuration problem and its fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key (or the path of an unreadable file).
    pub key: String,
    /// The source of the value: a file with its line, an environment variable, the command line or the default.
    pub source: String,
    /// The problem, as a predicate of a sentence that starts with the key.
    pub message: String,
    /// The fix.
    pub fix: String,
}

/// All configuration problems. `Display` formats them for users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    /// The problems, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => writeln!(f, "the configuration has a problem:")?,
            count => writeln!(f, "the configuration has {count} problems:")?,
        }
        for problem in &self.problems {
            write!(
                f,
                "\n  {} {}\n    from: {}\n    fix:  {}\n",
                problem.key, problem.message, problem.source, problem.fix
            )?;
        }
        Ok(())
    }
}

/// The problems found so far, and the source of each key's value.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    wrong_keys: BTreeSet<String>,
    origins: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Problems {
    /// Records a warning: a setting that works but should be changed.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Returns and clears the warnings.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Records the source of a key's value, for later problems.
    pub(super) fn set_origin(&mut self, key: &str, source: &str) {
        self.origins.insert(key.to_owned(), source.to_owned());
    }

    /// The source of a key's value.
    pub(super) fn origin(&self, key: &str) -> String {
        self.origins.get(key).cloned().unwrap_or_else(|| super::DEFAULT_SOURCE.to_owned())
    }

    /// Records a problem with a value from the given source.
    pub(super) fn add_from(
        &mut self,
        source: impl Into<String>,
        key: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.wrong_keys.insert(key.to_owned());
        let problem =
            Problem { key: key.to_owned(), source: source.into(), message: message.into(), fix: fix.into() };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// Records a problem with the value of one key.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add_from(self.origin(key), key, message, fix);
    }

    /// Records a contradiction between values, under the first key. Ignored if one of them is already known to be
    /// invalid, because the compared value is then not the configured one.
    pub(super) fn add_between(&mut self, keys: &[&str], message: impl Into<String>, fix: impl Into<String>) {
        if keys.iter().any(|key| self.is_wrong(key)) {
            return;
        }
        let Some(first) = keys.first() else { return };
        let source =
            keys.iter().map(|key| format!("{} ({key})", self.origin(key))).collect::<Vec<_>>().join(", ");
        self.add_from(source, first, message, fix);
    }

    /// Whether a problem with this key has been recorded.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.wrong_keys.contains(key)
    }

    /// `Ok`, or all problems.
    pub(super) fn into_result(self) -> Result<(), ConfigErrors> {
        if self.found.is_empty() { Ok(()) } else { Err(self.into_errors()) }
    }

    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors { problems: self.found }
    }
}
