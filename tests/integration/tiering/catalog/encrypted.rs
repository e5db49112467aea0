//! The same with an encrypted cloud store.

use nightferry_core::tiering::catalog::{self, Source};
use nightferry_tests::harness::{World, assert_invariants, pattern};
use tokio_util::sync::CancellationToken;

use super::{cross, dump, export, rebuild_from};

const KEY: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
const SIZES: [u64; 4] = [0, 1, 70_000, 9 * 1024 * 1024];

async fn crossed() -> World {
    let world = World::with("stores.s3.encryption", true).set("stores.s3.encryption_keys", KEY).build().await;
    let user = world.user().await;
    for (seed, size) in (1..).zip(SIZES) {
        world.upload(user, &format!("file {seed}"), pattern(seed, size)).await;
    }
    cross(&world).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_comes_back_from_a_snapshot() {
    let mut world = crossed().await;
    export(&world.context).await.unwrap();

    let verified =
        catalog::verify(&world.context, None, true, |_, _| (), &CancellationToken::new()).await.unwrap();
    assert_eq!((verified.copies, verified.bad_copies()), (2 * SIZES.len() as u64, 0), "{verified:?}");

    let before = world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Newest).await.unwrap();
    assert_eq!((rebuilt.looked, rebuilt.strange, rebuilt.settled.gone, rebuilt.settled.lost), (0, 0, 0, 0));
    assert_eq!(dump(&world.context.db).await, dump(&before.db).await);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_snapshot_encrypted_copies_are_counted_and_left_alone() {
    let mut world = crossed().await;
    world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Objects).await.unwrap();
    // Those in the local store are not encrypted, and bring everything back.
    assert_eq!(
        (rebuilt.strange, rebuilt.folded.objects),
        (SIZES.len() as u64, SIZES.len() as u64),
        "{rebuilt:?}"
    );
    assert_eq!(rebuilt.settled.lost, 0);
}
