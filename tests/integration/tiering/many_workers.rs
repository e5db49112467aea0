//! Four workers against one: a backlog limited by the stores moves faster accordingly, and nothing is sent twice.

use std::collections::BTreeMap;
use std::time::Duration;

use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::Run;
use nightferry_core::ids::UserId;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::Fault;
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;

const FILES: u64 = 96;
/// The latency of the cloud store for each file, independent of concurrency.
const LATENCY: Duration = Duration::from_millis(400);
/// The minimum speed-up of four workers.
const GAIN: f64 = 1.6;

async fn backlog(world: &World, user: UserId, name: &str) {
    for seed in 0..FILES {
        world.upload(user, &format!("{name}-{seed}"), pattern(seed, 1000)).await;
    }
}

fn seconds(run: &Run) -> f64 {
    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 96, 96), "{run:?}");
    let took = run.finished_at.unwrap() - run.started_at.unwrap();
    took.as_seconds_f64()
}

/// How often each object was sent.
fn puts(world: &World) -> BTreeMap<String, usize> {
    let mut puts = BTreeMap::new();
    for request in world.cloud.requests() {
        if request.method == Method::PUT {
            *puts.entry(request.path).or_default() += 1;
        }
    }
    puts
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_move_a_backlog_much_faster_than_one_and_send_nothing_twice() {
    let world = World::with("tiering.concurrency", 4).set("tiering.batch_size", 4).build().await;
    let user = world.user().await;
    backlog(&world, user, "one").await;
    world.cloud.add(Fault::delay(LATENCY).on(Method::PUT));
    let first = world.start_worker();
    let alone = seconds(&world.sync().await);

    backlog(&world, user, "four").await;
    let mut workers = vec![first];
    workers.extend((1..4).map(|_| world.start_worker()));
    all_up(&world, workers.len()).await;
    let together = seconds(&world.sync().await);

    for worker in workers {
        worker.stop().await;
    }
    let gain = alone / together;
    println!(
        "one worker took {alone:.2} s for {FILES} files, four took {together:.2} s: {gain:.2} times as fast"
    );
    assert!(gain >= GAIN, "{gain:.2} times as fast: {alone:.2} s and {together:.2} s");
    let puts = puts(&world);
    assert_eq!(puts.len() as u64, 2 * FILES);
    let twice: Vec<_> = puts.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "sent more than once: {twice:?}");
    assert_invariants(&world).await;
}

async fn all_up(world: &World, count: usize) {
    eventually("every worker shows itself", || async {
        let up = "SELECT id FROM workers WHERE heartbeat_at > now() - interval '2s'";
        (texts(&world.context.db, up).await.len() >= count).then_some(())
    })
    .await;
}
