//! Everything that is wrong with a configuration, gathered so that all of it is printed together.
//! No text made here may hold the value of a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One thing that is wrong with the configuration, with the way to put it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key (or, for a file that cannot be read, the path).
    pub key: String,
    /// Where the value came from: a file with its line, an environment variable, the command line or the default.
    pub source: String,
    /// What is wrong, as the rest of a sentence that begins with the key.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// All that is wrong with the configuration. Its `Display` is meant for people.
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

/// The problems found so far, and where each key's value came from.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    wrong_keys: BTreeSet<String>,
    origins: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Problems {
    /// Records something that works, and that the operator should change nevertheless.
    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// The warnings so far, which are then forgotten.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Remembers the source of a key's value for the problems still to come.
    pub(super) fn set_origin(&mut self, key: &str, source: &str) {
        self.origins.insert(key.to_owned(), source.to_owned());
    }

    /// The source of a key's value.
    pub(super) fn origin(&self, key: &str) -> String {
        self.origins.get(key).cloned().unwrap_or_else(|| super::DEFAULT_SOURCE.to_owned())
    }

    /// Records a problem with a value whose source is given.
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

    /// Records that values contradict each other, under the first key. Says nothing when one of them is already
    /// known to be wrong, because what is compared then is not what was written.
    pub(super) fn add_between(&mut self, keys: &[&str], message: impl Into<String>, fix: impl Into<String>) {
        if keys.iter().any(|key| self.is_wrong(key)) {
            return;
        }
        let Some(first) = keys.first() else { return };
        let source =
            keys.iter().map(|key| format!("{} ({key})", self.origin(key))).collect::<Vec<_>>().join(", ");
        self.add_from(source, first, message, fix);
    }

    /// Whether a problem with this key is recorded.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.wrong_keys.contains(key)
    }

    /// Nothing, or everything found.
    pub(super) fn into_result(self) -> Result<(), ConfigErrors> {
        if self.found.is_empty() { Ok(()) } else { Err(self.into_errors()) }
    }

    /// Everything found.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors { problems: self.found }
    }
}
