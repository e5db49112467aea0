//! Read times of files: recorded asynchronously, to the hour, in one statement for many.

use futures_util::StreamExt;
use nightferry_core::file::details::FileView;
use nightferry_core::file::{access, download};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::{World, pattern};

async fn download(world: &World, file: &FileView) {
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, None).await.unwrap();
    while let Some(chunk) = body.next().await {
        chunk.unwrap();
    }
}

/// Transaction ids of the rows of files and copies: they change whenever a row is written.
async fn writes(world: &World) -> Vec<String> {
    let sql = "SELECT concat(xmin, ' ', last_accessed_at) FROM files \
               UNION ALL SELECT concat(xmin, ' ', last_used_at) FROM replicas";
    texts(&world.context.db, sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_recorded_without_delaying_it_and_at_most_once_per_hour() {
    let world = World::new().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10_000)).await;
    let long_ago = "UPDATE replicas SET last_used_at = now() - interval '3 days'";
    execute(&world.context.db, long_ago).await.unwrap();
    let before = writes(&world).await;

    download(&world, &file).await;
    assert_eq!(writes(&world).await, before, "nothing is written by the download itself");

    access::flush(&world.services.files).await.unwrap();
    let noted = writes(&world).await;
    let recent = "SELECT 1 FROM files f, replicas r WHERE f.last_accessed_at > now() - interval '1 minute' \
                  AND r.last_used_at > now() - interval '1 minute'";
    assert_eq!(texts(&world.context.db, recent).await.len(), 1, "{noted:?}");

    for _ in 0..3 {
        download(&world, &file).await;
        access::flush(&world.services.files).await.unwrap();
    }
    assert_eq!(writes(&world).await, noted, "at most once per hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn read_times_are_written_when_the_database_is_back() {
    let world = World::with("database.acquire_timeout", "1s").own_postgres().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10_000)).await;
    download(&world, &file).await;
    let postgres = world.postgres.as_ref().unwrap();
    postgres.stop().await;
    assert!(access::flush(&world.services.files).await.is_err());
    postgres.restart().await;

    access::flush(&world.services.files).await.unwrap();

    let noted = "SELECT 1 FROM files WHERE last_accessed_at IS NOT NULL";
    assert_eq!(texts(&world.context.db, noted).await.len(), 1);
}
