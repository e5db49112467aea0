//! Invalid snapshots are rejected, and existing data is not overwritten.

use chrono::TimeDelta;
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::catalog::{self, CatalogError, Options, Refusal, Source};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::UserRole;
use nightferry_core::store::ObjectKey;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::Fault;
use nightferry_tests::harness::{World, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

use super::{cross, dump, export, put, rebuild_from, stored};

/// A world with a synced file and a snapshot of it.
async fn world_with_snapshot() -> (World, ObjectKey) {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 100)).await;
    cross(&world).await;
    let snapshot = export(&world.context).await.unwrap();
    let (key, ..) = ObjectKey::parse_snapshot(&snapshot.key).unwrap();
    (world, key)
}

async fn refusal(world: &World, key: &ObjectKey) -> Refusal {
    match rebuild_from(&world.context, Source::Snapshot(key.to_string())).await {
        Err(CatalogError::Refused { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

async fn is_empty(world: &World) -> bool {
    texts(&world.context.db, "SELECT id FROM users UNION ALL SELECT id FROM objects").await.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_truncated_renamed_and_foreign_snapshots_are_rejected() {
    let (mut world, key) = world_with_snapshot().await;
    let good = stored(&world, key.as_str()).await;
    let text = String::from_utf8(zstd::decode_all(good.as_slice()).unwrap()).unwrap();
    assert!(text.contains(r#""password_hash":"sealed:"#) && !text.contains("$2b$"), "hashes are encrypted");
    let compressed = |text: &str| zstd::encode_all(text.as_bytes(), 3).unwrap();
    world.lose_database(&[]).await;

    put(&world, &key, good[..good.len() / 2].to_vec()).await;
    assert_eq!(refusal(&world, &key).await, Refusal::Truncated);

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    put(&world, &key, flipped).await;
    refusal(&world, &key).await;

    // Written by an attacker who knows the format but not the key.
    let lines = |change: &dyn Fn(&str) -> Option<String>| {
        let lines = text.lines().filter_map(change).map(|line| format!("{line}\n"));
        compressed(&lines.collect::<String>())
    };
    let is_signature = |line: &str| line.starts_with("{\"signature\"");
    let pinned = lines(&|line| Some(line.replace("\"pinned\": false", "\"pinned\": true")));
    put(&world, &key, pinned).await;
    assert_eq!(refusal(&world, &key).await, Refusal::BadSignature);
    put(&world, &key, lines(&|line| (!is_signature(line)).then(|| line.to_owned()))).await;
    assert_eq!(refusal(&world, &key).await, Refusal::Truncated);
    let zeros = format!("{{\"signature\":\"{}\"}}", "00".repeat(32));
    let forged = lines(&|line| Some(if is_signature(line) { zeros.clone() } else { line.to_owned() }));
    put(&world, &key, forged).await;
    assert_eq!(refusal(&world, &key).await, Refusal::BadSignature);
    put(&world, &key, compressed(&format!("{text}{{}}\n"))).await;
    assert!(matches!(refusal(&world, &key).await, Refusal::Damaged(_)));
    put(&world, &key, compressed(&text.replacen(":1,", ":2,", 1))).await;
    assert_eq!(refusal(&world, &key).await, Refusal::UnknownVersion(2));

    // A decompression bomb: a few bytes that expand to an endless line.
    put(&world, &key, compressed(&"a".repeat(40 << 20))).await;
    assert!(matches!(refusal(&world, &key).await, Refusal::Damaged(_)));

    // An old snapshot under the name of a newer one.
    let (_, taken_at, id) = ObjectKey::parse_snapshot(key.as_str()).unwrap();
    let later = ObjectKey::of_snapshot(taken_at + TimeDelta::days(1), id);
    put(&world, &later, good.clone()).await;
    assert!(matches!(refusal(&world, &later).await, Refusal::Contradiction(_)));
    assert!(is_empty(&world).await, "after all attempts");

    put(&world, &key, good.clone()).await;
    let other_key = [("catalog.secret_key", "another key of at least 32 bytes.")];
    world.lose_database(&other_key).await;
    assert!(matches!(refusal(&world, &key).await, Refusal::ForeignKey { .. }));
    let nothing = rebuild_from(&world.context, Source::Newest).await;
    assert!(matches!(nothing, Err(CatalogError::NoneValid { count: 2, .. })), "{nothing:?}");
    // With the former key configured again.
    world.lose_database(&[("catalog.secret_key", "0123456789abcdef0123456789abcdef")]).await;
    let rebuilt = rebuild_from(&world.context, Source::Newest).await.unwrap();
    assert_eq!(
        (rebuilt.snapshot.as_deref(), rebuilt.rejected),
        (Some(key.as_str()), 1),
        "the invalid one is skipped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_empty_is_left_alone() {
    let (world, _) = world_with_snapshot().await;
    let before = dump(&world.context.db).await;
    for source in [Source::Newest, Source::Objects] {
        let refused = rebuild_from(&world.context, source).await;
        assert!(matches!(refused, Err(CatalogError::NotEmpty(_))), "{refused:?}");
    }
    assert_eq!(dump(&world.context.db).await, before);
    let process = world.start_process(&["--json", "catalog", "rebuild"]).await;
    assert_eq!(process.ended().await.code(), Some(4));
    let told = process.output();
    assert!(told.contains("database_not_empty") && told.contains("createdb"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_would_be_restored_and_changes_nothing() {
    let (mut world, key) = world_with_snapshot().await;
    world.lose_database(&[]).await;
    for source in [Source::Newest, Source::Objects] {
        let origin = Origin::default();
        let options = Options { source, trial: true, origin: &origin };
        let rebuilt = catalog::rebuild(&world.services.accounts, &options, |_| (), &CancellationToken::new())
            .await
            .unwrap();
        assert!(rebuilt.restored.values().sum::<u64>() + rebuilt.imported.objects > 0, "{rebuilt:?}");
        assert!(is_empty(&world).await);
    }
    let process = world.start_process(&["--json", "catalog", "rebuild"]).await;
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.output());
    let document: serde_json::Value = serde_json::from_str(&process.stdout()).unwrap();
    assert_eq!((document["ok"].as_bool(), document["snapshot"].as_str()), (Some(true), Some(key.as_str())));
    assert_eq!(document["restored"]["files"], 1);
    assert!(!is_empty(&world).await);
}

/// The account that a first start creates.
async fn first_admin(world: &World, email: &str) {
    let new = NewAccount {
        email: email.to_owned(),
        password: "correct horse battery".to_owned().into(),
        name: None,
        role: UserRole::Admin,
    };
    account::create(&world.services.accounts, new, None, &Origin::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_of_the_first_start_does_not_prevent_a_rebuild() {
    for source in [Source::Newest, Source::Objects] {
        let (mut world, _) = world_with_snapshot().await;
        let email = texts(&world.context.db, "SELECT email FROM users").await.remove(0);
        world.lose_database(&[]).await;
        first_admin(&world, "admin@example.org").await;
        rebuild_from(&world.context, source.clone()).await.unwrap();
        let emails = "SELECT email FROM users ORDER BY role = 'admin'";
        assert_eq!(texts(&world.context.db, emails).await, [email.as_str(), "admin@example.org"]);

        // The address of a restored account: there is one account afterwards.
        world.lose_database(&[]).await;
        first_admin(&world, &email.to_uppercase()).await;
        rebuild_from(&world.context, source.clone()).await.unwrap();
        let accounts = texts(&world.context.db, "SELECT concat_ws(' ', email, role) FROM users").await;
        let role = if source == Source::Objects { "admin" } else { "user" };
        assert_eq!(accounts, [format!("{email} {role}")]);
        assert_eq!(texts(&world.context.db, "SELECT count(*) FROM files").await, ["1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_with_a_folder_is_not_an_empty_database() {
    let (mut world, _) = world_with_snapshot().await;
    world.lose_database(&[]).await;
    first_admin(&world, "admin@example.org").await;
    let folder = "INSERT INTO folders (id, owner_id, parent_id, name) \
                  SELECT gen_random_uuid(), owner_id, id, 'a' FROM folders";
    execute(&world.context.db, folder).await.unwrap();
    let refused = rebuild_from(&world.context, Source::Newest).await;
    assert!(matches!(refused, Err(CatalogError::NotEmpty(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_rides_out_passing_errors_of_the_store() {
    let (mut world, _) = world_with_snapshot().await;
    world.lose_database(&[]).await;
    let snapshot = |fault: Fault| fault.on(Method::GET).key_contains("_nightferry/catalog");
    world.cloud.add(snapshot(Fault::status(500, "InternalError")).times(2));
    world.cloud.add(snapshot(Fault::reset_response_after(100)).times(1));
    world.local.add(Fault::status(500, "InternalError").on(Method::HEAD).times(2));
    world.local.add(Fault::status(503, "SlowDown").on(Method::GET).times(2));
    let rebuilt = rebuild_from(&world.context, Source::Newest).await.unwrap();
    assert_eq!(rebuilt.rejected, 0, "{rebuilt:?}");
    assert!(!is_empty(&world).await);
}
