//! A catalogue much larger than the available memory: read page by page, sent part by part.

use nightferry_core::catalog::{CatalogError, Source};
use nightferry_core::store::SNAPSHOT_PREFIX;
use nightferry_tests::harness::catalogue::FILES;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{Catalogue, World, WorldBuilder, pattern};
use reqwest::Method;
use serde_json::Value;

use super::{export, rebuild_from};

const MIB: u64 = 1024 * 1024;

/// Peak memory of a process when everything was read and all parts but the last were sent.
async fn peak_of_export(world: &World, at: Match) -> u64 {
    let gate = world.cloud.gate(at, Hold::Request);
    let process = world.start_process(&["--json", "catalog", "export"]).await;
    gate.reached().await;
    let peak = process.peak_memory();
    gate.open();
    assert!(process.ended().await.success(), "{}", process.output());
    let document: Value = serde_json::from_str(&process.stdout()).unwrap();
    println!("{peak} bytes for {}", document["snapshot"]);
    peak
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_any_size_is_written_and_restored_with_flat_memory() {
    let small = World::new().await;
    small.upload(small.user().await, "one", pattern(1, 10)).await;
    let snapshots = || Match::any().key_contains(SNAPSHOT_PREFIX);
    let of_one = peak_of_export(&small, snapshots().and_method(Method::PUT)).await;

    let mut world = WorldBuilder::default().with_files(Catalogue::Synced).build().await;
    world.upload(world.owner_of_files().await, "real", pattern(1, 10)).await;
    let completion = snapshots().and_method(Method::POST).has_parameter("uploadId");
    let of_many = peak_of_export(&world, completion.clone()).await;
    assert!(of_many < of_one + 48 * MIB, "{of_one} bytes for one file, {of_many} for {FILES}");
    let parts = world.cloud.count(&snapshots().and_method(Method::PUT).has_parameter("partNumber"));
    assert!(parts > 1, "it is sent in parts");

    // Killed after all parts were sent: there is no snapshot, and the next one aborts the upload.
    world.cloud.clear();
    let gate = world.cloud.gate(completion, Hold::Request);
    let process = world.start_process(&["catalog", "export"]).await;
    gate.reached().await;
    process.kill();
    // The gate stays closed: it would forward the completion of the killed process, which creates the snapshot.
    world.cloud.clear();
    let unfinished = async || world.direct.cloud().unwrap().list_multipart_uploads("").await.unwrap().len();
    assert_eq!(unfinished().await, 1);
    assert!(matches!(export(&world.context).await, Err(CatalogError::Busy)));
    world.expire_leases().await;
    let snapshot = export(&world.context).await.unwrap();
    assert_eq!(unfinished().await, 0);
    assert_eq!(snapshot.rows.values().sum::<u64>(), FILES as u64 * 5 + 2 + 4);

    // All but one of them are in no store: they are restored as lost.
    world.lose_database(&[]).await;
    let rebuilt = rebuild_from(&world.context, Source::Snapshot(snapshot.key.clone())).await.unwrap();
    println!("rebuilt in {:?}", rebuilt.took);
    assert_eq!((rebuilt.aligned.lost, rebuilt.aligned.missing), (FILES as u64 * 2, 0));
    assert_eq!(texts(&world.context.db, "SELECT count(*) FROM files").await, [(FILES + 1).to_string()]);
}
