//! The main function: files are synced byte for byte, and the database records it.

use nightferry_core::db::enums::RunStatus;
use nightferry_tests::harness::{World, pattern};

const MIB: u64 = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn files_of_all_sizes_are_synced_and_their_locations_recorded() {
    let world =
        World::with("tiering.multipart_threshold_mib", 16).set("tiering.part_size_mib", 8).build().await;
    let user = world.user().await;
    let sizes = [0, 1, 16 * 1024, 5 * MIB, 16 * MIB, 16 * MIB + 1, 40 * MIB + 12345];
    let mut files = Vec::new();
    for (seed, size) in sizes.into_iter().enumerate() {
        files.push(world.upload(user, &format!("file-{size}.bin"), pattern(seed as u64, size)).await);
    }
    assert!(files.iter().all(|file| file.row.storage_location == "minio" && file.row.synced_at.is_none()));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    assert_eq!((run.files_total, run.files_done, run.files_failed), (7, 7, 0));
    assert_eq!(run.bytes_done, sizes.iter().sum::<u64>() as i64);
    for (seed, (file, size)) in files.iter().zip(sizes).enumerate() {
        let now = nightferry_core::file::details::find(&world.context, user, file.row.id).await.unwrap();
        assert_eq!(now.row.storage_location, "s3");
        assert!(now.row.synced_at.is_some());
        assert_eq!(now.locations, ["minio", "s3"]);
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, size).sha256()), "{size} bytes");
    }
    worker.stop().await;
}
