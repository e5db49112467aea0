//! Every test named in `docs/faults.md` exists.

use std::path::Path;

/// The file that contains a test's module, relative to the workspace.
fn file_of(module: &str) -> String {
    match module.split_once("::") {
        Some(("model", rest)) => format!("tests/model/{rest}.rs"),
        Some(("store", rest)) => format!("core/store/tests/{rest}.rs"),
        _ => format!("tests/integration/{}.rs", module.replace("::", "/")),
    }
}

#[test]
fn every_fault_has_a_test_that_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(top.join("docs/faults.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(rows.len() >= 20, "the table of docs/faults.md was not found");
    for row in rows {
        let tests: Vec<&str> = row.split('`').filter(|word| word.contains("::")).collect();
        assert!(!tests.is_empty(), "no test is listed: {row}");
        for test in tests {
            let (module, name) = test.rsplit_once("::").unwrap();
            let file = file_of(module);
            let source = std::fs::read_to_string(top.join(&file)).unwrap_or_default();
            assert!(source.contains(&format!("fn {name}(")), "{file} has no test {name}: {row}");
        }
    }
}
