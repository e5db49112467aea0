//! Verifying a snapshot against the stores; and how other passes treat snapshots.

use nightferry_core::store::{Body, PutOptions, SNAPSHOT_PREFIX};
use nightferry_core::tiering::reconcile;
use nightferry_tests::harness::{World, pattern};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{cross, export};

async fn run(world: &World, arguments: &[&str]) -> (i32, Value) {
    let process = world.start_process(arguments).await;
    let code = process.ended().await.code().unwrap();
    (code, serde_json::from_str(&process.stdout()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_copy_listed_in_a_snapshot_is_checked() {
    let world = World::new().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..4 {
        files.push(world.upload(user, &format!("file {seed}"), pattern(seed, 1000)).await);
    }
    cross(&world).await;
    assert_eq!(run(&world, &["--json", "catalog", "verify"]).await.0, 3, "there is no snapshot yet");
    let snapshot = export(&world.context).await.unwrap();

    let (code, listed) = run(&world, &["--json", "catalog", "list"]).await;
    assert_eq!((code, &listed["snapshots"][0]["key"]), (0, &Value::from(snapshot.key.as_str())));
    for arguments in [&["--json", "catalog", "verify"][..], &["--json", "catalog", "verify", "--deep"]] {
        let (code, document) = run(&world, arguments).await;
        assert_eq!(
            (code, &document["ok"], &document["copies"]),
            (0, &Value::from(true), &Value::from(8)),
            "{document}"
        );
    }

    let (local, cloud) = (world.direct.local().unwrap(), world.direct.cloud().unwrap());
    local.delete(&world.key(&files[0]).await).await.unwrap();
    cloud.delete(&world.key(&files[0]).await).await.unwrap();
    cloud.delete(&world.key(&files[1]).await).await.unwrap();
    let replace = async |file, bytes: Vec<u8>| {
        let body = Body::Bytes(bytes.into());
        cloud.put(&world.key(file).await, body, &PutOptions::default()).await.unwrap();
    };
    replace(&files[2], vec![7; 999]).await;
    replace(&files[3], vec![7; 1000]).await;

    let (code, document) = run(&world, &["--json", "catalog", "verify", &snapshot.key]).await;
    assert_eq!((code, &document["ok"]), (7, &Value::from(false)), "{document}");
    assert_eq!(document["bad"], serde_json::json!({ "missing": 3, "wrong_size": 1 }));
    assert_eq!(
        (&document["objects_without_copy"], document["found"].as_array().unwrap().len()),
        (&Value::from(1), 4)
    );
    assert_eq!(run(&world, &["--json", "catalog", "verify", "nothing"]).await.0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_neither_orphans_nor_foreign() {
    let world = World::new().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, 100)).await;
    cross(&world).await;
    export(&world.context).await.unwrap();
    world.context.clock.advance(chrono::TimeDelta::days(2));

    let cloud = world.context.stores.cloud().unwrap();
    let options = reconcile::Options { apply: true, safety_age: std::time::Duration::from_secs(3600) };
    let summary = reconcile::pass(&world.context, cloud, options, |_| (), &CancellationToken::new())
        .await
        .unwrap()
        .unwrap();

    assert_eq!((summary.found(), summary.foreign, summary.objects), (0, 0, 2));
    assert_eq!(cloud.list(SNAPSHOT_PREFIX, None, 10).await.unwrap().objects.len(), 1);
}
