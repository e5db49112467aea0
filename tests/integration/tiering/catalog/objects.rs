//! Rebuilding without a snapshot, from the metadata of the objects.

use nightferry_core::auth::account;
use nightferry_core::auth::administration::{self, Change};
use nightferry_core::catalog::Source;
use nightferry_core::db::audit::Origin;
use nightferry_core::store::{Body, ObjectKey, PutOptions, metadata};
use nightferry_tests::harness::api::PASSWORD;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::{World, assert_invariants, pattern};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::encrypted::encrypted_world;
use super::snapshots::{folder, upload_to};
use super::{cross, rebuild_from};

const MIB: u64 = 1024 * 1024;

/// The values that can be derived from labels, for each version of each file.
const KNOWN: &str = "SELECT concat_ws(' ', v.file_id, v.number, f.current_version, f.filename, f.original_filename, \
            f.content_type, f.file_size, f.storage_location, f.uploaded_at, f.created_at, v.created_at, f.owner_id, \
            d.name, o.id, o.key, o.size, encode(o.sha256, 'hex'), encode(o.crc64nvme, 'hex'), o.content_type, \
            o.stored_at, (SELECT string_agg(r.store || r.state, ' ' ORDER BY r.store) FROM replicas r \
                          WHERE r.object_id = o.id)) \
     FROM file_versions v JOIN files f ON f.id = v.file_id JOIN objects o ON o.id = v.object_id \
     JOIN folders d ON d.id = f.folder_id ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn synced_files_are_restored_with_ids_names_folders_and_versions() {
    everything_comes_back(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synced_files_are_restored_from_an_encrypted_cloud_store() {
    everything_comes_back(encrypted_world().await).await;
}

async fn everything_comes_back(mut world: World) {
    let api = world.start_api();
    let ann = api.person().await;
    let user = ann.id.parse().unwrap();
    let mut kept = vec![
        (ann.upload("Übersicht – 写真 100%.txt", pattern(1, 1000)).await, pattern(1, 1000)),
        (ann.upload("empty", pattern(2, 0)).await, pattern(2, 0)),
        (ann.upload("large.bin", pattern(3, 12 * MIB)).await, pattern(3, 12 * MIB)),
    ];
    for seed in [4, 5] {
        kept.push((ann.upload("versions.txt", pattern(seed, 100)).await, pattern(5, 100)));
    }
    let renamed = ann.upload("first name", pattern(6, 100)).await;
    let path = format!("/api/files/{}", renamed["id"].as_str().unwrap());
    let rename = ann.request(Method::PATCH, &path).json(&json!({ "filename": "second name" }));
    assert_eq!(nightferry_tests::harness::api::answered(rename).await.0, 200);
    folder(&world, user, "", "Ä b").await;
    let inner = folder(&world, user, "Ä b", "inner").await;
    upload_to(&world, user, inner, "deep", 7).await;
    cross(&world).await;
    let email = ann.email.clone();
    drop(api);

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();

    assert_eq!(
        (rebuilt.unusable, rebuilt.imported.users, rebuilt.imported.renamed),
        (0, 1, 0),
        "{rebuilt:?}"
    );
    assert_eq!(texts(&world.context.db, KNOWN).await, texts(&before.db, KNOWN).await);
    let people = "SELECT concat_ws(' ', id, email, used_bytes) FROM users";
    assert_eq!(texts(&world.context.db, people).await, texts(&before.db, people).await);
    assert_invariants(&world).await;

    // Sign-in is not possible until an administrator has enabled the accounts.
    let api = world.start_api();
    let login = json!({ "email": email, "password": PASSWORD });
    let refused = api.request(Method::POST, "/api/auth/login").json(&login);
    assert_eq!(nightferry_tests::harness::api::answered(refused).await.0, 401);
    account::set_password(&world.services.accounts, user, PASSWORD.to_owned().into(), &Origin::default())
        .await
        .unwrap();
    administration::change(&world.context, user, Change::disabled(false), None, &Origin::default())
        .await
        .unwrap();
    let ann = api.login(&email).await;
    for (file, bytes) in kept {
        assert_eq!(ann.download(&file["id"]).await, bytes.bytes(), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsynced_files_are_restored_by_name_without_flags() {
    let mut world = World::new().await;
    let user = world.user().await;
    let synced = world.upload(user, "a.txt", pattern(1, 100)).await;
    cross(&world).await;
    execute(&world.context.db, "UPDATE files SET deleted_at = now(), pinned = true").await.unwrap();
    // The same name again, twice, and a large file whose hash was unknown at the start of its upload.
    world.upload(user, "a.txt", pattern(2, 200)).await;
    world.upload(user, "a.txt", pattern(3, 300)).await;
    world.upload(user, "large", pattern(4, 12 * MIB)).await;

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();

    assert_eq!(
        (rebuilt.imported.files, rebuilt.imported.versions, rebuilt.unusable),
        (2, 4, 0),
        "{rebuilt:?}"
    );
    let objects = "SELECT concat_ws(' ', id, size, encode(sha256, 'hex'), encode(crc64nvme, 'hex')) FROM objects ORDER BY 1";
    assert_eq!(texts(&world.context.db, objects).await, texts(&before.db, objects).await);
    let files = "SELECT concat_ws(' ', filename, current_version, file_size, pinned, deleted_at) FROM files ORDER BY 1";
    assert_eq!(texts(&world.context.db, files).await, ["a.txt 3 300 f", "large 1 12582912 f"]);
    assert!(texts(&world.context.db, "SELECT id FROM files").await.contains(&synced.row.id.to_string()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_objects_and_duplicate_names_are_restored() {
    let mut world = World::new().await;
    let user = world.user().await;
    let first = world.upload(user, "one", pattern(1, 100)).await;
    let other = world.upload(user, "two", pattern(2, 200)).await;
    // The second file gets a version with the content of the first.
    let share = format!(
        "INSERT INTO file_versions (file_id, number, object_id, created_by) VALUES ('{}', 2, '{}', '{user}')",
        other.row.id, first.object_id
    );
    execute(&world.context.db, &share).await.unwrap();
    let current =
        format!("UPDATE files SET current_version = 2, file_size = 100 WHERE id = '{}'", other.row.id);
    execute(&world.context.db, &current).await.unwrap();
    let gone = world.upload(user, "again", pattern(3, 300)).await;
    cross(&world).await;
    let trash = format!("UPDATE files SET deleted_at = now() WHERE id = '{}'", gone.row.id);
    execute(&world.context.db, &trash).await.unwrap();
    world.upload(user, "again", pattern(4, 400)).await;
    cross(&world).await;

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();

    assert_eq!(
        (rebuilt.imported.files, rebuilt.imported.versions, rebuilt.imported.renamed),
        (4, 5, 1),
        "{rebuilt:?}"
    );
    let versions = "SELECT concat_ws(' ', file_id, number, object_id) FROM file_versions ORDER BY 1";
    assert_eq!(texts(&world.context.db, versions).await, texts(&before.db, versions).await);
    let names = "SELECT filename || ' ' || file_size FROM files ORDER BY 1";
    assert_eq!(texts(&world.context.db, names).await, ["again (1) 300", "again 400", "one 100", "two 100"]);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_that_matches_the_checksums_of_the_upload_wins_in_whatever_store_it_is() {
    let mut world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 100)).await;
    cross(&world).await;
    // The cloud copy has all labels, other content, and no checksums.
    let (key, cloud) = (world.key(&file).await, world.direct.cloud().unwrap());
    let head = cloud.head(&key).await.unwrap().unwrap();
    let known = [metadata::OBJECT, metadata::OWNER, metadata::FILE, metadata::VERSION, metadata::NAME];
    let labels =
        known.into_iter().filter_map(|name| Some((name, head.metadata.get(name)?.clone()))).collect();
    let options = PutOptions { metadata: labels, ..PutOptions::default() };
    cloud.put(&key, Body::Bytes(vec![7; 100].into()), &options).await.unwrap();

    world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();

    assert_eq!((rebuilt.imported.files, rebuilt.aligned.found), (1, 1), "{rebuilt:?}");
    let found = "SELECT concat_ws(' ', v.file_id, encode(o.sha256, 'hex'), r.store, r.state) FROM file_versions v \
                 JOIN objects o ON o.id = v.object_id JOIN replicas r ON r.object_id = o.id";
    let expected = format!("{} {} minio present", file.row.id, pattern(1, 100).sha256());
    assert_eq!(texts(&world.context.db, found).await, [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_verified_only_if_the_store_proved_it_or_it_was_read() {
    let mut world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 100)).await;
    cross(&world).await;
    let key = world.key(&file).await;
    world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();

    let mut unproved = 0;
    for store in ["minio", "s3"] {
        let head = world.direct.get(store).unwrap().head(&key).await.unwrap().unwrap();
        let is_proved = head.sha256.is_some() || head.crc64nvme.is_some();
        let verified = format!("SELECT verified_at IS NOT NULL FROM replicas WHERE store = '{store}'");
        assert_eq!(texts(&world.context.db, &verified).await, [is_proved.to_string()], "{store}");
        unproved += u64::from(!is_proved);
    }
    assert_eq!(rebuilt.aligned.unverified, unproved);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_metadata_is_harmless() {
    let mut world = World::new().await;
    let user = world.user().await;
    let good = world.upload(user, "good", pattern(1, 100)).await;
    cross(&world).await;
    let stranger = Uuid::now_v7();
    let cloud = world.direct.cloud().unwrap();
    let put = async |label: &[(&'static str, String)]| {
        let key = ObjectKey::new(stranger, Uuid::now_v7(), "stray.bin");
        let metadata = label.iter().cloned().collect();
        let options = PutOptions { metadata, ..PutOptions::default() };
        cloud.put(&key, Body::Bytes(vec![7; 10].into()), &options).await.unwrap();
    };
    put(&[]).await;
    put(&[(metadata::NAME, "../../etc".to_owned()), (metadata::EMAIL, "no address".to_owned())]).await;
    put(&[(metadata::SHA256, "ab".repeat(32))]).await;
    // A file of another account, with its versions.
    put(&[
        (metadata::FILE, good.row.id.to_string()),
        (metadata::VERSION, "1".to_owned()),
        (metadata::FOLDER, "../x".to_owned()),
        (metadata::TIME, "9999-01-01T00:00:00Z".to_owned()),
    ])
    .await;

    world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();

    assert_eq!((rebuilt.unusable, rebuilt.imported.users, rebuilt.imported.files), (1, 2, 2), "{rebuilt:?}");
    let names = "SELECT concat_ws(' ', filename, current_version) FROM files ORDER BY 1";
    assert_eq!(texts(&world.context.db, names).await, ["good 1", "stray.bin 3"]);
    let address = format!("SELECT email FROM users WHERE id = '{stranger}'");
    assert_eq!(
        texts(&world.context.db, &address).await,
        [format!("recovered-{stranger}@nightferry.invalid")]
    );
    assert_eq!(world.stored("s3", &good).await, Some(pattern(1, 100).sha256()));
}
