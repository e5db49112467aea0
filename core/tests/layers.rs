//! The layers of this crate: a module may use only modules of lower layers. The compiler enforces this between crates;
//! this test enforces it within the crate. `docs/adr/0022-layers-in-core.md` explains the order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first, with the modules of each. The crates below this one (ground, store, config, types, db) are
/// re-exported under their module names and may be used by all.
const LAYERS: &[(&str, &[&str])] = &[
    ("stores", &["batcher", "stores", "telemetry"]),
    ("context", &["context"]),
    ("features without files", &["audit", "auth", "object"]),
    ("tiering", &["tiering"]),
    ("file", &["file"]),
    ("top", &["catalog", "services"]),
];

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
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

/// The top-level modules of the crate that the code of a file uses. `depth` is the nesting depth of its own module.
fn named_modules(code: &str, depth: usize) -> Vec<&str> {
    let to_the_top = "super::".repeat(depth);
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| [named_after(line, "crate::"), named_after(line, &to_the_top)].concat()).collect()
}

/// Modules used by a module that are not in a lower layer.
fn violations(module: &str, depth: usize, code: &str) -> Vec<String> {
    let own =
        layer_of(module).unwrap_or_else(|| panic!("the module {module} has no layer: add it to LAYERS"));
    let others = named_modules(code, depth).into_iter().filter(|named| *named != module);
    let wrong = others.filter(|named| layer_of(named).is_some_and(|layer| layer >= own));
    wrong.map(|named| format!("{module} ({}) names {named} ({})", LAYERS[own].0, layer_name(named))).collect()
}

fn layer_name(module: &str) -> &'static str {
    layer_of(module).map_or("no layer", |layer| LAYERS[layer].0)
}

#[test]
fn modules_only_use_modules_of_lower_layers() {
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
fn imports_of_the_same_or_a_higher_layer_are_found_in_every_form() {
    let upwards = "use crate::tiering::copy;\nuse crate::{ids::FileId, file::name};\nfn f() { super::super::auth::g() }";
    assert_eq!(
        violations("object", 2, upwards),
        [
            "object (features without files) names tiering (tiering)",
            "object (features without files) names file (file)",
            "object (features without files) names auth (features without files)",
        ]
    );
    assert_eq!(
        violations("tiering", 2, "use crate::ids::FileId;\nuse super::schema;\n// crate::file"),
        [""; 0]
    );
    assert_eq!(violations("tiering", 1, "use super::catalog;"), ["tiering (tiering) names catalog (top)"]);
}
