//! The embedded migrations, and how their text is read.

/// A migration: a folder in `migrations/`.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// The name of the folder.
    pub name: &'static str,
    /// The content of `up.sql`.
    pub up: &'static str,
    /// The content of `down.sql`.
    pub down: &'static str,
    /// Whether all of it is one transaction; otherwise each statement is sent by itself (`metadata.toml`).
    pub in_transaction: bool,
}

/// All migrations, oldest first.
pub const ALL: &[Script] = include!(concat!(env!("OUT_DIR"), "/scripts.rs"));

/// The line of a `down.sql` that states what is lost when the migration is reverted.
const LOSES: &str = "-- Loses: ";

impl Script {
    /// The version by which the database records it: the digits of its date and number.
    pub fn version(&self) -> String {
        self.name.split('_').next().unwrap_or_default().replace('-', "")
    }

    /// What is lost when it is reverted, in words. `None` if nothing is, or only what services record again.
    pub fn loses(&self) -> Option<&'static str> {
        self.down.lines().find_map(|line| line.strip_prefix(LOSES))
    }
}

/// The statements of a script. Each ends with a line that ends with a semicolon, outside of a body in `$$`; comments
/// before a statement belong to it.
pub fn statements(script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut end, mut in_body) = (0, 0, false);
    for line in script.split_inclusive('\n') {
        end += line.len();
        let code = without_comment(line);
        if code.matches("$$").count() % 2 == 1 {
            in_body = !in_body;
        }
        if !in_body && code.ends_with(';') {
            found.extend(script.get(start..end));
            start = end;
        }
    }
    let rest = script.get(start..).unwrap_or_default();
    if rest.lines().any(|line| !without_comment(line).is_empty()) {
        found.push(rest);
    }
    found
}

/// The code of a statement, without comments, as one line.
pub fn code(statement: &str) -> String {
    let words = statement.lines().map(without_comment).flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ")
}

fn without_comment(line: &str) -> &str {
    line.split("--").next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_diesel() {
        assert_eq!(ALL[0].name, "2026-11-21-000001_accounts");
        assert_eq!(ALL[0].version(), "20261121000001");
    }

    #[test]
    fn a_script_is_split_into_its_statements() {
        let script = "-- One; two.\nDROP INDEX a;\n\nDO $$\nBEGIN\n    NULL; -- $$\nEND $$;\n-- Three\nCREATE INDEX a\n    ON b (c);\n-- End\n";
        let found: Vec<String> = statements(script).into_iter().map(code).collect();
        assert_eq!(found, ["DROP INDEX a;", "DO $$ BEGIN NULL; END $$;", "CREATE INDEX a ON b (c);"]);
        assert_eq!(statements("SELECT 1"), ["SELECT 1"]);
        assert_eq!(statements("-- nothing\n"), Vec::<&str>::new());
    }

    #[test]
    fn what_a_migration_loses_is_a_line_of_its_down_script() {
        let script = |down| Script { name: "1_a", up: "", down, in_transaction: true };
        assert_eq!(script("-- Loses: the list\nDROP TABLE list;\n").loses(), Some("the list"));
        assert_eq!(script("DROP INDEX list_idx;\n").loses(), None);
    }
}
