//! The example file and the tables of the documentation, made from the table of settings.

use std::fmt::Write as _;

use config::{Value, ValueKind};

use super::layer;
use super::problem::Problems;
use super::spec::{Kind, Need, Spec};
use super::{table, usual};

const WIDTH: usize = 110;

/// Values that the example gives where there is no default.
const EXAMPLE_VALUES: &[(&str, &str)] = &[
    ("database.url", "postgres://nightferry:nightferry@127.0.0.1:5432/nightferry"),
    ("stores.minio.access_key", "nightferry"),
    ("stores.minio.secret_key", "nightferry-secret"),
    ("stores.s3.bucket", "cloud-files"),
    ("auth.oidc.*.issuer", "https://accounts.google.com"),
    ("auth.oidc.*.client_id", "…"),
    ("policy.rules.*.name", "old-videos"),
    ("policy.rules.*.older_than", "90d"),
    ("policy.rules.*.content_type", "video/*"),
    ("policy.rules.*.storage_class", "STANDARD_IA"),
    ("policy.rules.*.free_local_after", "7d"),
    ("policy.prices.*.store", "s3"),
];

const HEAD: &str = "\
# Nightferry's configuration: every setting with its default. Made from the program's own table; do not edit it here,
# copy it to config/nightferry.toml or /etc/nightferry/nightferry.toml (or name it with --config or NIGHTFERRY_CONFIG).
#
# A line that begins with \"#\" and a key shows a default: remove the \"#\" to change it. The lines without have no default.
# Every setting can be given in the environment too, as NIGHTFERRY__SECTION__KEY (NIGHTFERRY__SERVER__PORT=9090), which
# wins over this file; secrets are best kept there, or in a file that NIGHTFERRY__SECTION__KEY_FILE names.
";

const STORES_HEAD: &str = "\
# The S3 stores that hold the bytes. \"minio\" and \"s3\" are there by default; any number can be added, each as a section
# [stores.NAME] with a name of at most 32 characters a-z, 0-9 and hyphen.
";

const OIDC_HEAD: &str = "\
# Providers elsewhere with which people may sign in (OpenID Connect): each a section [auth.oidc.NAME] with a name of at most
# 32 characters a-z, 0-9 and hyphen. Sign-in begins at /api/auth/oidc/NAME/start.
";

const RULES_HEAD: &str = "\
# Rules that decide for each file where it is copied and how long its local copy stays; the first that matches decides.
# Without rules all files go to tiering.cloud_store and their local copies stay as tiering.free_local_after says. Each rule
# is a section [[policy.rules]], counted from 1: in the environment this is NIGHTFERRY__POLICY__RULES__1__NAME.
";

const PRICES_HEAD: &str = "\
# What stores charge, from the price lists of your providers: a section [[policy.prices]] for each store and storage class.
# Without them `nightferry sync plan` shows costs as unknown.
";

/// The text of `config/example.toml`: every setting with its default, its values and its explanation.
pub fn example_toml() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for spec in table::all() {
        if spec.section() != section {
            section = spec.section();
            if section == "stores.*" {
                text.push('\n');
                text.push_str(STORES_HEAD);
                store_sections(&mut text);
            } else if section == "auth.oidc.*" {
                text.push('\n');
                text.push_str(OIDC_HEAD);
                text.push_str("\n#[auth.oidc.google]\n");
            } else if let Some(list) = section.strip_suffix(".*") {
                text.push('\n');
                text.push_str(if list == "policy.rules" { RULES_HEAD } else { PRICES_HEAD });
                push(&mut text, format_args!("\n#[[{list}]]\n"));
            } else {
                push(&mut text, format_args!("\n[{section}]\n"));
            }
        }
        if section != "stores.*" {
            explained(&mut text, spec);
            assignment(&mut text, spec, spec.key);
        }
    }
    text
}

fn store_sections(text: &mut String) {
    for (index, name) in ["minio", "s3"].into_iter().enumerate() {
        push(text, format_args!("\n[stores.{name}]\n"));
        for spec in table::all().filter(|spec| spec.section() == "stores.*") {
            if index == 0 {
                explained(text, spec);
            }
            assignment(text, spec, &spec.key.replace('*', name));
        }
    }
}

fn explained(text: &mut String, spec: &Spec) {
    let mut note = spec.doc.to_owned();
    match spec.kind {
        Kind::Integer { .. } | Kind::Duration { .. } => {
            push(&mut note, format_args!(" ({})", spec.kind.brief()));
        }
        Kind::OneOf(_) => push(&mut note, format_args!(" {}.", spec.kind.brief())),
        Kind::Switch | Kind::DurationOrNever | Kind::Text { .. } => {}
    }
    if let Need::Optional(effect) = spec.need {
        push(&mut note, format_args!(" Not set: {effect}."));
    }
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

fn assignment(text: &mut String, spec: &Spec, key: &str) {
    let example = EXAMPLE_VALUES.iter().find(|(of, _)| *of == key).map(|(_, value)| format!("\"{value}\""));
    let default = default_of(key);
    let required = matches!(spec.need, Need::Required(_)) && default == "\"\"";
    // There is no rule in force unless somebody writes one.
    let mark =
        if required && !key.starts_with("policy.") && !key.starts_with("auth.oidc.") { "" } else { "#" };
    push(text, format_args!("{mark}{} = {}\n", spec.name(), example.unwrap_or(default)));
}

/// The default as it is written in TOML.
fn default_of(key: &str) -> String {
    let defaults = layer::defaults(&mut Problems::default()).entries;
    match defaults.get(key).or_else(|| defaults.get(&table::pattern(key))) {
        Some(Value { kind: ValueKind::String(text), .. }) => format!("\"{text}\""),
        Some(value) => value.kind.to_string(),
        None => "\"\"".to_owned(),
    }
}

/// The generated part of `docs/configuration.md`: a table of settings for each section, then the usual names.
pub fn configuration_tables() -> String {
    let mut text = String::new();
    let mut section = "";
    for spec in table::all() {
        if spec.section() != section {
            section = spec.section();
            let heading = match section.strip_suffix(".*") {
                Some(named @ ("stores" | "auth.oidc")) => format!("[{named}.NAME]"),
                Some(list) => format!("[[{list}]]"),
                None => format!("[{section}]"),
            };
            push(&mut text, format_args!("\n### `{heading}`\n\n"));
            text.push_str("| key | default | values | what it does |\n| --- | --- | --- | --- |\n");
        }
        push(&mut text, format_args!("{}\n", table_row(spec)));
    }
    text.push_str("\n### Usual environment names\n\n| name | setting |\n| --- | --- |\n");
    for usual in usual::USUAL_NAMES {
        push(&mut text, format_args!("| `{}` | `{}` |\n", usual.name, usual.key));
    }
    text
}

fn table_row(spec: &Spec) -> String {
    let mut doc = spec.doc.to_owned();
    if spec.secret {
        doc.push_str(" **Secret**: never shown.");
    }
    let usual: Vec<String> = usual::names_of(spec.key).map(|usual| format!("`{}`", usual.name)).collect();
    if !usual.is_empty() {
        push(&mut doc, format_args!(" Also {}.", usual.join(", ")));
    }
    let default = match (spec.need, default_of(spec.key).as_str()) {
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
