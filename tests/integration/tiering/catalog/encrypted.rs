//! Catalogue tests with an encrypted cloud store.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use nightferry_core::catalog::{self, Event, Options, Rebuilt, Source};
use nightferry_core::db::audit::Origin;
use nightferry_core::encryption::EncryptionEnvelope;
use nightferry_core::store::{Body, ObjectKey, PutOptions, Store};
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::{World, assert_invariants, pattern};
use tokio_util::sync::CancellationToken;

use super::{cross, dump, export, rebuild_from};

const KEY: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
const SIZES: [u64; 4] = [0, 1, 70_000, 9 * 1024 * 1024];

/// A world whose cloud store is encrypted.
pub(super) async fn encrypted_world() -> World {
    World::with("stores.s3.encryption", true).set("stores.s3.encryption_keys", KEY).build().await
}

async fn synced() -> World {
    let world = encrypted_world().await;
    let user = world.user().await;
    for (seed, size) in (1..).zip(SIZES) {
        world.upload(user, &format!("file {seed}"), pattern(seed, size)).await;
    }
    cross(&world).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_files_are_restored_from_a_snapshot() {
    let mut world = synced().await;
    export(&world.context).await.unwrap();

    let verified =
        catalog::verify(&world.context, None, true, |_, _| (), &CancellationToken::new()).await.unwrap();
    assert_eq!((verified.copies, verified.bad_copies()), (2 * SIZES.len() as u64, 0), "{verified:?}");

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Newest).await.unwrap();
    assert_eq!(
        (rebuilt.examined, rebuilt.unusable, rebuilt.aligned.missing, rebuilt.aligned.lost),
        (0, 0, 0, 0)
    );
    assert_eq!(dump(&world.context.db).await, dump(&before.db).await);
    assert_invariants(&world).await;
}

/// Empties the local store, as if every copy was evicted or a disk was lost.
async fn empty_local(world: &World) {
    let local = world.direct.local().unwrap();
    for key in keys(local).await {
        local.delete(&key).await.unwrap();
    }
}

async fn keys(store: &Store) -> Vec<ObjectKey> {
    let page = store.list("user-", None, 1000).await.unwrap();
    page.objects.iter().map(|object| ObjectKey::parse(&object.key).unwrap()).collect()
}

/// Like `rebuild_from`; also returns the objects that cannot be used, with the reasons.
async fn rebuild_from_objects(world: &World) -> (Rebuilt, BTreeMap<String, String>) {
    let mut strange = BTreeMap::new();
    let options = Options { source: Source::Objects, trial: false, origin: &Origin::default() };
    let tell = |event: Event<'_>| {
        if let Event::Unusable { key, why, .. } = event {
            strange.insert(key.to_owned(), why.to_owned());
        }
    };
    let stop = CancellationToken::new();
    let rebuilt = catalog::rebuild(&world.services.accounts, &options, tell, &stop).await.unwrap();
    (rebuilt, strange)
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_copies_alone_restore_everything() {
    let mut world = synced().await;
    let versions = "SELECT concat_ws(' ', v.file_id, v.number, f.filename, f.storage_location, o.key, o.size, \
                    encode(o.sha256, 'hex'), encode(o.crc64nvme, 'hex'), encode(o.block_crcs, 'hex'), c.key_id, \
                    encode(c.envelope, 'hex')) \
         FROM file_versions v JOIN files f ON f.id = v.file_id JOIN objects o ON o.id = v.object_id \
         JOIN replicas c ON c.object_id = o.id AND c.store = 's3' AND c.state = 'present' ORDER BY 1";
    empty_local(&world).await;

    let before = world.lose_database(&[]).await;
    let (rebuilt, strange) = rebuild_from_objects(&world).await;

    assert_eq!((strange.len(), rebuilt.aligned.lost), (0, 0), "{strange:?}");
    let found = texts(&world.context.db, versions).await;
    assert_eq!(found.len(), SIZES.len());
    assert_eq!(found, texts(&before.db, versions).await);
    assert_invariants(&world).await;
}

/// Replaces an object with other content or another label.
async fn rewrite(
    store: &Store,
    key: &ObjectKey,
    change: impl FnOnce(&mut Vec<u8>, &mut BTreeMap<String, String>),
) {
    let mut object = store.get(key, None).await.unwrap();
    let (mut metadata, mut bytes) = (object.metadata, Vec::new());
    while let Some(piece) = object.body.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    change(&mut bytes, &mut metadata);
    let names = [
        "nf-object",
        "nf-owner",
        "nf-name",
        "nf-file",
        "nf-version",
        EncryptionEnvelope::KEY_ID,
        EncryptionEnvelope::ENVELOPE,
    ];
    let metadata = names.into_iter().filter_map(|name| Some((name, metadata.remove(name)?))).collect();
    let options = PutOptions { metadata, ..PutOptions::default() };
    store.put(key, Body::Bytes(bytes.into()), &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn modified_encrypted_copies_are_rejected() {
    let mut world = encrypted_world().await;
    let user = world.user().await;
    let mut objects = BTreeMap::new();
    for (seed, name) in (1..).zip(["good", "flipped", "cut", "swapped", "unknown", "no envelope", "garbled"])
    {
        let view = world.upload(user, name, pattern(seed, 70_000)).await;
        objects.insert(name, ObjectKey::new(user.0, view.object_id.0, name));
    }
    cross(&world).await;
    empty_local(&world).await;
    let cloud = world.direct.cloud().unwrap();
    let of_good =
        cloud.head(&objects["good"]).await.unwrap().unwrap().metadata[EncryptionEnvelope::ENVELOPE].clone();
    rewrite(cloud, &objects["flipped"], |bytes, _| bytes[69_000] ^= 1).await;
    // One chunk shorter: a valid size of an encrypted object.
    rewrite(cloud, &objects["cut"], |bytes, _| bytes.truncate(64 * 1024 + 16)).await;
    let set = |name: &'static str, value: String| {
        move |_: &mut Vec<u8>, label: &mut BTreeMap<String, String>| {
            drop(label.insert(name.to_owned(), value));
        }
    };
    rewrite(cloud, &objects["swapped"], set(EncryptionEnvelope::ENVELOPE, of_good)).await;
    rewrite(cloud, &objects["unknown"], set(EncryptionEnvelope::KEY_ID, "b".to_owned())).await;
    rewrite(cloud, &objects["no envelope"], |_, label| drop(label.remove(EncryptionEnvelope::ENVELOPE)))
        .await;
    rewrite(cloud, &objects["garbled"], set(EncryptionEnvelope::ENVELOPE, "no base64".to_owned())).await;

    world.lose_database(&[]).await;
    let (rebuilt, strange) = rebuild_from_objects(&world).await;

    let why = |name: &str| strange[objects[name].as_str()].clone();
    assert!(why("flipped").contains("chunk 1 does not decrypt"), "{}", why("flipped"));
    assert!(why("cut").contains("chunk 0 does not decrypt"), "{}", why("cut"));
    assert!(why("swapped").contains("not the one that it was encrypted with"), "{}", why("swapped"));
    assert!(why("unknown").contains("the key \"b\", which is not configured"), "{}", why("unknown"));
    for name in ["no envelope", "garbled"] {
        assert_eq!(why(name), "it is encrypted, and its envelope is invalid");
    }
    assert_eq!(
        (rebuilt.unusable, rebuilt.imported.objects, rebuilt.imported.files),
        (6, 1, 1),
        "{strange:?}"
    );
    assert_eq!(texts(&world.context.db, "SELECT filename FROM files").await, ["good"]);
    assert_invariants_of_what_is_known(&world).await;
}

/// Objects that were rejected are in the store without a row, as expected; all other invariants hold.
async fn assert_invariants_of_what_is_known(world: &World) {
    let cloud = world.direct.cloud().unwrap();
    let known = texts(&world.context.db, "SELECT key FROM objects").await;
    for key in keys(cloud).await {
        if !known.contains(&key.as_str().to_owned()) {
            cloud.delete(&key).await.unwrap();
        }
    }
    assert_invariants(world).await;
}
