//! The floors of this crate: a module names only modules of floors below its own. What is a crate of its own is kept
//! apart by the compiler; this test keeps the rest apart. The order is explained in `docs/adr/0022-floors-in-core.md`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first, with the modules on each.
const FLOORS: &[(&str, &[&str])] = &[
    ("ground", &["checksum", "clock", "ids", "object_key", "retry", "step", "units"]),
    ("above ground", &["encryption", "timetable"]),
    ("config", &["config"]),
    ("store", &["store"]),
    ("error", &["error"]),
    ("db", &["db"]),
    ("stores", &["stores", "telemetry"]),
    ("context", &["context"]),
    ("acts without files", &["audit", "auth", "object"]),
    ("tiering", &["tiering"]),
    ("file", &["file"]),
    ("top", &["catalog", "services"]),
];

/// Modules that do not name a lower one either: `db` and `store` know nothing of each other.
const APART: &[(&str, &str)] = &[("db", "store")];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, modules)| modules.contains(&module))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names that follow `prefix` in a line: one, or those of a group in braces.
fn named_after<'t>(text: &'t str, prefix: &str) -> Vec<&'t str> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let preceded = text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if preceded {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let group = rest.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or(rest));
        let paths: Vec<&str> = group.map_or_else(|| vec![rest], |group| group.split(',').collect());
        names.extend(paths.into_iter().filter_map(|path| {
            path.trim()
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .filter(|name| !name.is_empty())
        }));
    }
    names
}

/// The modules at the top of the crate that the code of one file names. `depth` is how deep its own module lies.
fn named_modules(code: &str, depth: usize) -> Vec<&str> {
    let to_the_top = "super::".repeat(depth);
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [named_after(line, "crate::"), named_after(line, &to_the_top)].concat()).collect()
}

/// What in the code of a module names something that is not below it.
fn violations(module: &str, depth: usize, code: &str) -> Vec<String> {
    let own = floor_of(module)
        .unwrap_or_else(|| panic!("the module {module} stands on no floor: add it to FLOORS"));
    let others = named_modules(code, depth).into_iter().filter(|named| *named != module);
    let wrong = others.filter(|named| {
        floor_of(named).is_some_and(|floor| floor >= own) || APART.contains(&(module, named))
    });
    wrong.map(|named| format!("{module} ({}) names {named} ({})", FLOORS[own].0, floor_name(named))).collect()
}

fn floor_name(module: &str) -> &'static str {
    floor_of(module).map_or("no floor", |floor| FLOORS[floor].0)
}

#[test]
fn no_module_names_one_that_is_not_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| **file != root.join("lib.rs")) {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let mut parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
        parts.pop_if(|last| *last == "mod");
        let code = fs::read_to_string(file).unwrap();
        let found = violations(parts[0], parts.len(), &code);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", file.display())));
    }
    assert!(files.len() > 100, "only {} files found", files.len());
    assert!(wrong.is_empty(), "imports point upwards:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_upwards_or_sideways_is_found_in_every_spelling() {
    let upwards = "use crate::tiering::copy;\nuse crate::{ids::FileId, file::name};\nfn f() { super::super::auth::g() }";
    assert_eq!(
        violations("object", 2, upwards),
        [
            "object (acts without files) names tiering (tiering)",
            "object (acts without files) names file (file)",
            "object (acts without files) names auth (acts without files)",
        ]
    );
    assert_eq!(violations("db", 2, "use crate::ids::FileId;\nuse super::schema;\n// crate::file"), [""; 0]);
    assert_eq!(violations("db", 2, "use crate::store::Store;"), ["db (db) names store (store)"]);
    assert_eq!(violations("store", 1, "use super::db;"), ["store (store) names db (db)"]);
}
