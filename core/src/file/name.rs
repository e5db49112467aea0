//! Validation of file names. Names come from any source and are used everywhere: they are checked once, here.

use crate::error::{Error, Result};

/// Maximum length of a name, in bytes of UTF-8: the limit of common file systems.
pub const MAX_LENGTH: usize = 255;

/// Checks a name given by a user and returns it trimmed.
///
/// # Errors
/// [`crate::error::Error::Validation`] with `field` and the violated rule.
pub fn check(name: &str, field: &str) -> Result<String> {
    let name = name.trim();
    let fault = if name.is_empty() {
        "must not be empty"
    } else if name.len() > MAX_LENGTH {
        "must have at most 255 bytes"
    } else if name == "." || name == ".." {
        "must not be a relative path"
    } else if name.contains(['/', '\\']) {
        "must not contain a slash or backslash"
    } else if name.chars().any(|c| c.is_control() || is_invisible(c)) {
        "must not contain control or invisible formatting characters"
    } else {
        return Ok(name.to_owned());
    };
    Err(Error::field(field, fault))
}

/// Invisible characters that change how a name is displayed: directional overrides make `txt.exe` look like `exe.txt`.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// The name with a counter before its extension: `report (2).pdf`, within the length limit.
pub fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    };
    let suffix = format!(" ({number}){extension}");
    let mut room = MAX_LENGTH.saturating_sub(suffix.len()).min(stem.len());
    while !stem.is_char_boundary(room) {
        room -= 1;
    }
    let stem = stem.get(..room).unwrap_or_default();
    format!("{stem}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_traversal_and_hidden_characters_are_rejected() {
        for name in [
            "",
            "  ",
            ".",
            "..",
            "a/b",
            "a\\b",
            "../etc/passwd",
            "a\0b",
            "a\nb",
            "txt\u{202E}exe",
            &"x".repeat(256),
        ] {
            assert!(check(name, "filename").is_err(), "{name:?} was taken");
        }
    }

    #[test]
    fn names_in_any_language_are_accepted() {
        for name in ["a", "report.pdf", "Übergröße.txt", "日本語.txt", "💾.bin", ".hidden", "a b  c"]
        {
            assert_eq!(check(name, "filename").unwrap(), name);
        }
    }

    #[test]
    fn numbering_keeps_the_extension_and_the_limit() {
        assert_eq!(numbered("report.pdf", 2), "report (2).pdf");
        assert_eq!(numbered(".hidden", 1), ".hidden (1)");
        let long = format!("{}.txt", "ü".repeat(125));
        let numbered = numbered(&long, 12);
        assert!(numbered.len() <= MAX_LENGTH && numbered.ends_with(" (12).txt"));
    }
}
