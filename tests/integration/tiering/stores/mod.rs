//! More than two stores: draining, replication, failover, rebalancing.

mod breakers;
mod draining;
mod draining_faults;
mod failover;
mod identities;
mod identity_reports;
mod rebalancing;
mod rebalancing_beside;
mod rebalancing_faults;
mod replication;

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::db::audit::Origin;
use nightferry_core::file::details::FileView;
use nightferry_core::file::download;
use nightferry_core::tiering::relocate::drain::{self, Draining};
use nightferry_core::tiering::relocate::rebalance::{self, Rebalancing};
use nightferry_tests::harness::{World, eventually};

/// Requests the drain of a store.
async fn drain(world: &World, store: &str) -> Draining {
    drain::begin(&world.context, store, None, &Origin::default()).await.unwrap()
}

/// Waits until a store is empty.
async fn drained(world: &World, store: &str) -> Draining {
    eventually(&format!("{store} is empty"), || async {
        drain::look(&world.context, store).await.unwrap().filter(Draining::is_finished)
    })
    .await
}

/// Requests the rebalancing of the local stores.
async fn even_out(world: &World) -> Rebalancing {
    rebalance::begin(&world.context, rebalance::TOLERANCE, None, &Origin::default()).await.unwrap()
}

/// Waits until the rebalancing has ended.
async fn evened_out(world: &World) -> Rebalancing {
    eventually("the stores are rebalanced", || async {
        rebalance::look(&world.context).await.unwrap().filter(Rebalancing::is_finished)
    })
    .await
}

/// Waits until the rebalancing waits for a reason that contains this text.
async fn rebalance_waits_for(world: &World, words: &str) -> String {
    eventually(&format!("rebalancing waits for {words}"), || async {
        let reason = rebalance::look(&world.context).await.unwrap()?.rebalance.waits_for;
        reason.filter(|reason| reason.contains(words))
    })
    .await
}

/// Waits until a drain waits for a reason that contains this text.
async fn waits_for(world: &World, store: &str, words: &str) -> String {
    eventually(&format!("{store} waits for {words}"), || async {
        let draining = drain::look(&world.context, store).await.unwrap().unwrap();
        draining.drain.waits_for.filter(|reason| reason.contains(words))
    })
    .await
}

/// The hash of a file, as read by a client.
async fn hash(world: &World, file: &FileView) -> Sha256 {
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, None).await.unwrap();
    let mut hasher = Sha256Hasher::new();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk.unwrap());
    }
    hasher.finish()
}

/// The result of [`nightferry_tests::harness::states`]: states with their counts.
fn counted<const N: usize>(wanted: [(&str, usize); N]) -> BTreeMap<String, usize> {
    wanted.map(|(state, count)| (state.to_owned(), count)).into()
}

/// Every key that a store actually contains.
async fn keys(world: &World, store: &str) -> Vec<String> {
    let page = world.direct.get(store).unwrap().list("user-", None, 1000).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}
