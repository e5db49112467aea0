//! Patterns for names: `*` matches anything within one path segment, `**` anything at all, `?` one character.

use std::fmt;
use std::str::FromStr;

use crate::validators::ensure;
use crate::value::split_list;

/// Patterns separated by commas, one of which must match. Empty: everything matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Globs(Vec<String>);

impl Globs {
    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// A regular expression that matches a whole text if any of the patterns does, in Postgres syntax (ARE).
    pub fn to_regex(&self) -> String {
        let any: Vec<String> = self.0.iter().map(|glob| regex_of(glob)).collect();
        format!("^(?:{})$", any.join("|"))
    }
}

fn regex_of(glob: &str) -> String {
    let mut regex = String::new();
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => regex.push_str(".*"),
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            // Before a letter or digit, a backslash would have a meaning.
            c if c.is_alphanumeric() || !c.is_ascii() => regex.push(c),
            c => regex.extend(['\\', c]),
        }
    }
    regex
}

impl FromStr for Globs {
    type Err = String;

    /// The error completes a sentence about the text, without repeating the text.
    fn from_str(text: &str) -> Result<Self, String> {
        ensure(text.len() <= 1000, "is longer than 1000 characters")?;
        ensure(!text.chars().any(char::is_control), "contains control characters")?;
        Ok(Self(split_list(text).map(str::to_owned).collect()))
    }
}

impl fmt::Display for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_single_star_does_not_match_a_slash_and_other_characters_are_literal() {
        let regex = |text: &str| text.parse::<Globs>().unwrap().to_regex();
        assert_eq!(regex("image/*"), "^(?:image\\/[^/]*)$");
        assert_eq!(regex("/a/**, /b?/"), "^(?:\\/a\\/.*|\\/b[^/]\\/)$");
        assert_eq!(regex("a.b+c(1)|ü"), "^(?:a\\.b\\+c\\(1\\)\\|ü)$");
        assert!(" , ".parse::<Globs>().unwrap().is_empty());
        assert!("a\u{7}".parse::<Globs>().is_err());
    }
}
