//! A worker that is stopped: transfers in flight may finish, the rest is released immediately, and parts that were sent
//! are not sent again.

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::RunId;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Gate, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
/// Five parts.
const LARGE: u64 = 40 * MIB;

/// One file and one part at a time, in the order of upload, and a lease that is longer than the test: no step may
/// depend on its expiry.
fn world(grace: &str) -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.part_concurrency", 1)
        .set("tiering.concurrency", 1)
        .set("tiering.batch_size", 1)
        .set("tiering.lease", "10m")
        .set("tiering.shutdown_grace", grace)
}

fn parts() -> Match {
    Match::method(Method::PUT).has_parameter("partNumber")
}

/// A large file that waits in the middle of its third part, and a small file queued after it.
struct InTheMiddle {
    world: World,
    large: FileView,
    small: FileView,
    gate: Gate,
    run: RunId,
}

async fn in_the_middle(world: WorldBuilder) -> InTheMiddle {
    let world = world.build().await;
    let user = world.user().await;
    let large = world.upload(user, "a", pattern(1, LARGE)).await;
    let small = world.upload(user, "b", pattern(2, 10)).await;
    let gate = world.cloud.gate(parts().parameter("partNumber", "3"), Hold::RequestBody(MIB));
    let run = world.request_run(RunScope::default()).await.id;
    InTheMiddle { world, large, small, gate, run }
}

impl InTheMiddle {
    /// Nothing more is claimed, and the sent parts are recorded.
    async fn assert_given_back(&self) {
        for file in [&self.large, &self.small] {
            let replica = self.world.replica("s3", file).await.unwrap();
            assert_eq!((replica.state, replica.attempts), (ReplicaState::Queued, 0));
            assert_eq!(replica.run_id, Some(self.run), "the run continues without this worker");
        }
        let kept = texts(&self.world.context.db, "SELECT number FROM transfer_parts ORDER BY number").await;
        assert_eq!(kept, ["1", "2"]);
    }

    /// The next worker sends only the missing parts.
    async fn assert_finished_by_the_next(self) {
        self.world.cloud.until(|requests| requests.iter().all(|request| request.done)).await;
        self.world.cloud.forget_requests();
        let next = self.world.start_worker();
        let run = self.world.ended(self.run).await;
        assert_eq!(
            (run.status, run.files_done, run.bytes_done),
            (RunStatus::Succeeded, 2, LARGE as i64 + 10)
        );
        assert_eq!(self.world.cloud.count(&parts()), 3, "only the parts that were missing");
        assert_eq!(self.world.stored("s3", &self.large).await, Some(pattern(1, LARGE).sha256()));
        next.stop().await;
        assert_invariants(&self.world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_shuts_down_during_a_part_releases_what_it_cannot_finish() {
    let middle = in_the_middle(world("0s")).await;
    let worker = middle.world.start_worker();
    middle.gate.reached().await;

    worker.stop().await;

    middle.assert_given_back().await;
    middle.gate.open();
    middle.assert_finished_by_the_next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_gets_sigterm_during_a_part_releases_what_it_cannot_finish() {
    let middle = in_the_middle(world("1s")).await;
    let worker = middle.world.start_worker_process().await;
    middle.gate.reached().await;

    worker.terminate();
    let status = worker.ended().await;

    assert!(status.success(), "{status}:\n{}", worker.output());
    middle.assert_given_back().await;
    let workers = texts(&middle.world.context.db, "SELECT id FROM workers").await;
    assert!(workers.is_empty(), "it has unregistered");
    middle.gate.open();
    middle.assert_finished_by_the_next().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_finishes_what_is_in_flight_within_its_grace_and_starts_nothing_more() {
    let middle = in_the_middle(world("10m")).await;
    let world = &middle.world;
    let worker = world.start_worker();
    middle.gate.reached().await;

    worker.drain();
    eventually("the small file is released", || async {
        let replica = world.replica("s3", &middle.small).await.unwrap();
        (replica.state == ReplicaState::Queued).then_some(())
    })
    .await;
    middle.gate.open();
    worker.stop().await;

    assert_eq!(world.replica("s3", &middle.large).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.cloud.count(&parts()), 5, "each part once");
    assert_eq!(world.replica("s3", &middle.small).await.unwrap().state, ReplicaState::Queued);
    let next = world.start_worker();
    let run = world.ended(middle.run).await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 2));
    next.stop().await;
    assert_invariants(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_drains_while_a_store_is_down() {
    let world = world("0s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10)).await;
    world.cloud.down().await;
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    eventually("the store is detected as down", || async {
        world.replica("s3", &file).await.and_then(|replica| replica.last_error)
    })
    .await;

    worker.stop().await;

    let replica = world.replica("s3", &file).await.unwrap();
    assert_eq!((replica.state, replica.attempts), (ReplicaState::Queued, 0));
    world.cloud.up().await;
    let next = world.start_worker();
    assert_eq!(world.ended(requested.id).await.files_done, 1);
    next.stop().await;
}
