//! The index for searches by a part of a name, which needs the extension `pg_trgm`.

use nightferry_core::db::Database;
use nightferry_core::db::files::{ListOrder, ListQuery, list};
use nightferry_core::db::migrate::{NameSearch, ensure_name_search, is_name_search_indexed};
use nightferry_core::ids::UserId;
use nightferry_tests::harness::catalogue::FILES;
use nightferry_tests::harness::database::{execute, rows_read, texts};
use nightferry_tests::harness::{Catalogue, World, WorldBuilder};

use super::lists::query;

/// Whether the server offers the extension. Otherwise only searches without the index can be tested, which is printed.
async fn is_offered(db: &Database) -> bool {
    let offered =
        texts(db, "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'").await == ["1"];
    if !offered {
        println!("skipped: the server does not offer the extension pg_trgm");
    }
    offered
}

/// The number of rows that a search reads, and what it finds.
async fn search(db: &Database, owner: UserId, part: &str) -> (i64, Vec<String>) {
    let all = query(owner, ListOrder::Name(None), false);
    let wanted = ListQuery { name_contains: Some(part.to_owned()), limit: 50, ..all };
    let (read, found) = rows_read(db, async |conn| list(conn, &wanted).await).await;
    (read, found.into_iter().map(|(file, ..)| file.filename).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_the_same_with_and_without_the_index_and_reads_few_rows_with_it() {
    let world = WorldBuilder::default().with_files(Catalogue::Uploaded).build().await;
    let db = &world.context.db;
    let owner = world.owner_of_files().await;
    let rare = format!("{FILES}");
    let parts = [rare.as_str(), &rare[1..], "k1", "9", "%", "_", "K29", "not there"];
    let mut plain = Vec::new();
    for part in parts {
        plain.push(search(db, owner, part).await);
    }
    assert!(plain[0].0 >= FILES, "without the index, all names are read: {}", plain[0].0);
    assert_eq!(plain[0].1, [format!("k{FILES}")]);

    if !is_offered(db).await {
        return;
    }
    assert_eq!(ensure_name_search(db).await.unwrap(), NameSearch::Indexed);

    // More often than Postgres plans with the actual values if it keeps the plan.
    for _ in 0..8 {
        let (read, found) = search(db, owner, &rare).await;
        assert_eq!(found, plain[0].1);
        assert!(read <= 100, "{read} rows are read for one that is found");
    }
    for (part, (_, found)) in parts.iter().zip(&plain) {
        assert_eq!(search(db, owner, part).await.1, *found, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_whose_building_broke_off_is_built_again() {
    let world = World::new().await;
    let db = &world.context.db;
    if !is_offered(db).await {
        return;
    }
    ensure_name_search(db).await.unwrap();
    let invalidate =
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'files_name_trigrams_idx'::regclass";
    execute(db, invalidate).await.unwrap();
    assert!(!is_name_search_indexed(db).await.unwrap());

    assert_eq!(ensure_name_search(db).await.unwrap(), NameSearch::Indexed);
    assert!(is_name_search_indexed(db).await.unwrap());
}

/// The database by an account that may read it and create nothing.
async fn restricted(world: &World) -> Database {
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    execute(&world.context.db, &format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await.unwrap();
    let (_, url) = world.settings().iter().find(|(key, _)| key == "database.url").unwrap();
    let (scheme, address) = url.split_once("://").unwrap();
    let (_, host) = address.split_once('@').unwrap();
    let own = format!("{scheme}://{role}:secret@{host}");
    world.context_with(&[("database.url", &own)]).db
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_may_not_create_extensions_gets_the_remedy() {
    let world = World::new().await;
    let db = restricted(&world).await;

    let NameSearch::Unindexed(reason) = ensure_name_search(&db).await.unwrap() else { panic!("it is built") };

    let remedy =
        if is_offered(&world.context.db).await { "CREATE EXTENSION pg_trgm" } else { "contrib modules" };
    assert!(reason.contains(remedy), "{reason}");
}
