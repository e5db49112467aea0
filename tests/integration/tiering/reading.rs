//! Downloads during a store outage: the nearest healthy copy is read, even from the middle on.

use futures_util::StreamExt;
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::error::Error;
use nightferry_core::file::details::FileView;
use nightferry_core::file::download;
use nightferry_core::store::{ByteRange, PutOptions};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 10 * MIB + 3;

/// A synced file in both stores.
async fn synced(world: WorldBuilder) -> (World, FileView) {
    let world = world.build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, SIZE)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
    world.local.forget_requests();
    world.cloud.forget_requests();
    (world, file)
}

async fn download(world: &World, file: &FileView, range: Option<ByteRange>) -> (u64, Sha256) {
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, range).await.unwrap();
    let (mut size, mut hasher) = (0, Sha256Hasher::new());
    while let Some(chunk) = body.next().await {
        let chunk = chunk.unwrap();
        size += chunk.len() as u64;
        hasher.update(&chunk);
    }
    (size, hasher.finish())
}

fn reads() -> Match {
    Match::method(Method::GET).key_contains("-a")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_takes_the_local_copy_while_it_can() {
    let (world, file) = synced(WorldBuilder::default()).await;
    assert_eq!(download(&world, &file, None).await, (SIZE, pattern(1, SIZE).sha256()));
    assert_eq!((world.local.count(&reads()), world.cloud.count(&reads())), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_finds_the_local_store_down_reads_from_the_cloud() {
    let (world, file) = synced(WorldBuilder::default()).await;
    world.local.down().await;
    assert_eq!(download(&world, &file, None).await, (SIZE, pattern(1, SIZE).sha256()));
    world.local.up().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_without_its_local_copy_reads_from_the_cloud() {
    let (world, file) = synced(WorldBuilder::default()).await;
    world.direct.local().unwrap().delete(&world.key(&file).await).await.unwrap();
    assert_eq!(download(&world, &file, None).await, (SIZE, pattern(1, SIZE).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_finds_a_truncated_local_copy_reads_from_the_cloud() {
    let (world, file) = synced(WorldBuilder::default()).await;
    let key = world.key(&file).await;
    let cut = pattern(1, SIZE).bytes().slice(..1000);
    let local = world.direct.local().unwrap();
    local.put(&key, cut.into(), &PutOptions::default()).await.unwrap();
    assert_eq!(download(&world, &file, None).await, (SIZE, pattern(1, SIZE).sha256()));

    world.direct.cloud().unwrap().delete(&key).await.unwrap();
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    assert!(download::open(&world.services.files, &target, None).await.is_err(), "no store has all of it");
}

/// The local store fails after some bytes; the cloud store returns exactly the rest.
async fn goes_on_from_the_cloud(world: WorldBuilder, fault: Fault) {
    let (world, file) = synced(world).await;
    let fault = world.local.add(fault.matching(reads()));

    assert_eq!(download(&world, &file, None).await, (SIZE, pattern(1, SIZE).sha256()));

    assert_eq!(fault.struck(), 1);
    let read = world.cloud.requests().into_iter().find(|request| reads().holds(request)).unwrap();
    assert!(read.response_bytes >= SIZE - 5 * MIB && read.response_bytes < SIZE, "{read:?}");
    fault.remove();
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_local_store_fails_continues_from_the_cloud_at_the_same_byte() {
    goes_on_from_the_cloud(WorldBuilder::default(), Fault::reset_response_after(5 * MIB)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_whose_local_store_hangs_continues_from_the_cloud_at_the_same_byte() {
    let world = World::with("stores.minio.idle_timeout", "2s");
    let gated = |world: &World| {
        world.local.gate(reads(), nightferry_tests::harness::fault_proxy::Hold::ResponseBody(5 * MIB))
    };
    let (world, file) = synced(world).await;
    let gate = gated(&world);

    assert_eq!(download(&world, &file, None).await, (SIZE, pattern(1, SIZE).sha256()));

    let read = world.cloud.requests().into_iter().find(|request| reads().holds(request)).unwrap();
    assert!(read.response_bytes >= SIZE - 5 * MIB && read.response_bytes < SIZE, "{read:?}");
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_whose_local_store_dies_in_the_middle_ends_where_it_should() {
    let (world, file) = synced(WorldBuilder::default()).await;
    world.local.add(Fault::reset_response_after(MIB).matching(reads()));
    let wanted = pattern(1, SIZE).bytes().slice(12_345..(12_345 + 3 * MIB as usize));

    let range = ByteRange::of_length(12_345, 3 * MIB);

    assert_eq!(download(&world, &file, range).await, (3 * MIB, Sha256::of(&wanted)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_reports_that_every_store_is_down() {
    let (world, file) = synced(WorldBuilder::default()).await;
    world.local.down().await;
    world.cloud.down().await;
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let refused = download::open(&world.services.files, &target, None).await;
    assert!(matches!(refused, Err(Error::StoreUnavailable { .. })), "{:?}", refused.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_loses_every_store_in_the_middle_ends_with_an_error_and_not_early() {
    let (world, file) = synced(WorldBuilder::default()).await;
    world.local.add(Fault::reset_response_after(MIB).matching(reads()));
    world.cloud.add(Fault::reset_response_after(MIB).matching(reads()));
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, None).await.unwrap();
    let mut got = 0;
    let end = loop {
        match body.next().await {
            Some(Ok(chunk)) => got += chunk.len() as u64,
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "ended well after {got} of {SIZE} bytes");
    assert!(body.next().await.is_none());
}
