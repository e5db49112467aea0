//! The example file and the tables of the documentation, generated from the declarations of the settings.

use std::fmt::Write as _;

use config::ValueKind;

use super::declare::Declared;
use super::spec::{Kind, Need, Spec, prose};
use super::table::{self, Form};
use super::{env_aliases, merge};

const WIDTH: usize = 118;

/// Values in the example file for the stores that exist by default.
const STORE_EXAMPLES: [(&str, &str); 3] = [
    ("stores.minio.access_key", "nightferry"),
    ("stores.minio.secret_key", "nightferry-secret"),
    ("stores.s3.bucket", "cloud-files"),
];

const HEAD: &str = "\
# Configuration of Nightferry: all settings with their defaults. This file is generated; do not edit it, but copy it to
# config/nightferry.toml or /etc/nightferry/nightferry.toml, or to a path given with --config or NIGHTFERRY_CONFIG.
#
# A line that starts with \"#\" and a key shows a default; remove the \"#\" to change it. Settings without \"#\" have no default.
# Every setting can also be set in the environment, as NIGHTFERRY__SECTION__KEY (NIGHTFERRY__SERVER__PORT=9090), which
# overrides this file. Keep secrets there, or in a file named by NIGHTFERRY__SECTION__KEY_FILE.
";

/// The text of `config/example.toml`: every setting with its default, its values and its documentation.
pub fn example_toml() -> String {
    let mut text = HEAD.to_owned();
    for section in sections() {
        text.push('\n');
        comment(&mut text, &prose(section.doc));
        // Only the stores exist by default; other sections with names or numbers are shown as comments.
        let (names, mark): (&[&str], _) = match (section.key.as_str(), section.form) {
            ("stores.*", _) => (&["minio", "s3"], ""),
            ("auth.oidc.*", _) => (&["google"], "#"),
            (_, Form::Single) => (&[""], ""),
            _ => (&[""], "#"),
        };
        for (index, name) in names.iter().enumerate() {
            let before = if index == 0 { "" } else { "\n" };
            push(&mut text, format_args!("{before}{mark}{}\n", header(section, name)));
            for spec in table::all().filter(|spec| spec.section() == section.key) {
                if index == 0 {
                    comment(&mut text, &explained(spec));
                }
                assignment(&mut text, spec, &spec.key.replace('*', name), mark);
            }
        }
    }
    text
}

/// The sections that have settings, in the order of the table.
fn sections() -> impl Iterator<Item = &'static Declared> {
    let mut last = "";
    table::all().filter_map(move |spec| {
        if spec.section() == last {
            return None;
        }
        last = spec.section();
        table::section(last)
    })
}

/// The header of a section as it is written in a file.
fn header(section: &Declared, name: &str) -> String {
    match (section.form, section.key.strip_suffix(".*")) {
        (Form::Numbered, Some(list)) => format!("[[{list}]]"),
        _ => format!("[{}]", section.key.replace('*', name)),
    }
}

fn explained(spec: &Spec) -> String {
    let mut note = spec.doc();
    match spec.kind {
        Kind::Integer { .. } | Kind::Duration { .. } => {
            push(&mut note, format_args!(" ({})", spec.kind.brief()));
        }
        Kind::OneOf(_) => push(&mut note, format_args!(" {}.", spec.kind.brief())),
        Kind::Switch | Kind::DurationOrNever | Kind::Text { .. } => {}
    }
    if let Need::Optional(effect) = spec.need {
        push(&mut note, format_args!(" Default: {effect}."));
    }
    note
}

/// A comment, wrapped.
fn comment(text: &mut String, note: &str) {
    let mut line = "#".to_owned();
    for word in note.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            push(text, format_args!("{line}\n"));
            "#".clone_into(&mut line);
        }
        push(&mut line, format_args!(" {word}"));
    }
    push(text, format_args!("{line}\n"));
}

fn assignment(text: &mut String, spec: &Spec, key: &str, mark: &str) {
    let of_store = STORE_EXAMPLES.iter().find(|(of, _)| *of == key).map(|(_, value)| *value);
    let example = of_store.or(spec.example).map(|value| format!("\"{value}\""));
    let default = default_text(spec, key);
    let required = matches!(spec.need, Need::Required(_)) && default == "\"\"";
    let mark = if required { mark } else { "#" };
    push(text, format_args!("{mark}{} = {}\n", spec.name(), example.unwrap_or(default)));
}

/// The default in TOML syntax.
fn default_text(spec: &Spec, key: &str) -> String {
    match merge::default_of(key, spec).kind {
        ValueKind::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    }
}

/// The generated part of `docs/configuration.md`: a table of settings for each section, then the aliases of the
/// environment.
pub fn configuration_tables() -> String {
    let mut text = String::new();
    for section in sections() {
        push(&mut text, format_args!("\n### `{}`\n\n{}\n\n", header(section, "NAME"), prose(section.doc)));
        text.push_str("| key | default | values | description |\n| --- | --- | --- | --- |\n");
        for spec in table::all().filter(|spec| spec.section() == section.key) {
            push(&mut text, format_args!("{}\n", table_row(spec)));
        }
    }
    text.push_str("\n### Alternative environment variables\n\n| name | setting |\n| --- | --- |\n");
    for alias in env_aliases::ENV_ALIASES {
        push(&mut text, format_args!("| `{}` | `{}` |\n", alias.name, alias.key));
    }
    text
}

fn table_row(spec: &Spec) -> String {
    let mut doc = spec.doc();
    if spec.secret {
        doc.push_str(" **Secret**: never shown.");
    }
    let aliases: Vec<String> =
        env_aliases::aliases_of(&spec.key).map(|alias| format!("`{}`", alias.name)).collect();
    if !aliases.is_empty() {
        push(&mut doc, format_args!(" Also {}.", aliases.join(", ")));
    }
    if let Some(former) = spec.former {
        push(&mut doc, format_args!(" Formerly `{former}`."));
    }
    let default = match (spec.need, default_text(spec, &spec.key).as_str()) {
        (Need::Required(_), _) => "required".to_owned(),
        (Need::Optional(effect), "\"\"") => effect.to_owned(),
        (_, default) => format!("`{default}`"),
    };
    let cells = [format!("`{}`", spec.name()), default, spec.kind.brief(), doc];
    format!("| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}
