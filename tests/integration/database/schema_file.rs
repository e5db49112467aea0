//! Checks that `core/db/src/schema.rs` matches the migrations.

use std::collections::BTreeSet;

use nightferry_tests::harness::{World, database};

/// The columns in the `table!` blocks, as `table.column type nullable`.
fn declared() -> BTreeSet<String> {
    let source = include_str!("../../../core/db/src/schema.rs");
    let mut table = String::new();
    let mut lines = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        if let Some((name, _)) = line.strip_suffix(" {").and_then(|start| start.split_once(" (")) {
            name.clone_into(&mut table);
        } else if let Some((column, kind)) = line.strip_suffix(',').and_then(|line| line.split_once(" -> ")) {
            let nullable = kind.starts_with("Nullable<");
            let kind = kind.trim_start_matches("Nullable<").trim_end_matches('>');
            lines.insert(format!("{table}.{column} {kind} {nullable}"));
        }
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_file_is_current() {
    let world = World::new().await;
    let real = database::texts(
        &world.context.db,
        "SELECT table_name || '.' || column_name || ' ' || udt_name || ' ' || (is_nullable = 'YES') \
         FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) \
         WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> '__diesel_schema_migrations'",
    )
    .await;
    let real: BTreeSet<String> = real
        .iter()
        .map(|line| {
            let [column, kind, nullable] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let kind: String = kind.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            format!("{column} {kind} {nullable}")
        })
        .collect();
    let declared = declared();
    let missing: Vec<_> = real.difference(&declared).collect();
    let gone: Vec<_> = declared.difference(&real).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "edit core/db/src/schema.rs: add {missing:?}, remove {gone:?}"
    );
}
