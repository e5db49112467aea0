//! A fair queue for a resource with limited concurrency: each network has its own queue, and at most as many of its
//! waiters are in the common queue as can be served concurrently. A single request therefore waits behind few others,
//! however long the other queues are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The fair queue. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct FairQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Served in FIFO order.
    slots: Arc<Semaphore>,
    concurrency: usize,
    max_waiting: usize,
    /// Only for networks with active or waiting requests.
    networks: Mutex<HashMap<String, NetworkQueue>>,
}

#[derive(Debug)]
struct NetworkQueue {
    /// Limits the waiters in the common queue to the number that can be served concurrently.
    gate: Arc<Semaphore>,
    waiters: usize,
}

/// A permit; released when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    // In this order: the next waiter of the same network queues behind the waiters of other networks.
    _slot: OwnedSemaphorePermit,
    _gate: OwnedSemaphorePermit,
    _queue_place: QueuePlace,
}

#[derive(Debug)]
struct QueuePlace {
    shared: Arc<Shared>,
    network: String,
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let mut networks = self.shared.networks.lock();
        if let Some(queue) = networks.get_mut(&self.network) {
            queue.waiters -= 1;
            if queue.waiters == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

impl FairQueue {
    /// Serves `concurrency` requests concurrently, and allows each network `max_waiting` more that wait.
    pub(super) fn new(concurrency: usize, max_waiting: usize) -> Self {
        let slots = Arc::new(Semaphore::new(concurrency));
        Self(Arc::new(Shared { slots, concurrency, max_waiting, networks: Mutex::default() }))
    }

    /// Waits for a permit. Returns `None` immediately if the queue of the network is full.
    pub(super) async fn acquire(&self, network: &str) -> Option<Permit> {
        let (place, gate) = self.enqueue(network)?;
        // Neither semaphore is ever closed.
        let gate = gate.acquire_owned().await.ok()?;
        let slot = self.0.slots.clone().acquire_owned().await.ok()?;
        Some(Permit { _slot: slot, _gate: gate, _queue_place: place })
    }

    fn enqueue(&self, network: &str) -> Option<(QueuePlace, Arc<Semaphore>)> {
        let shared = &self.0;
        let mut networks = shared.networks.lock();
        let queue = networks.entry(network.to_owned()).or_insert_with(|| NetworkQueue {
            gate: Arc::new(Semaphore::new(shared.concurrency)),
            waiters: 0,
        });
        if queue.waiters >= shared.concurrency.saturating_add(shared.max_waiting) {
            return None;
        }
        queue.waiters += 1;
        let place = QueuePlace { shared: shared.clone(), network: network.to_owned() };
        Some((place, queue.gate.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_single_request_is_served_before_a_long_queue_of_another_network() {
        let turns = FairQueue::new(2, 10);
        let served = [turns.acquire("crowd").await.unwrap(), turns.acquire("crowd").await.unwrap()];
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                tokio::spawn({
                    let turns = turns.clone();
                    async move { turns.acquire("crowd").await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(turns.acquire("crowd").now_or_never().unwrap().is_none(), "the queue is full");
        let alone = turns.acquire("alone");
        tokio::pin!(alone);
        assert!(timeout(SOON, alone.as_mut()).await.is_err());
        let [first, second] = served;
        drop(first);
        let alone = timeout(SOON, alone).await.unwrap().unwrap();
        assert!(waiting.iter().all(|task| !task.is_finished()));
        drop((second, alone));
        // Then the others, one after the other.
        for task in waiting {
            assert!(timeout(SOON, task).await.unwrap().unwrap().is_some());
        }
        assert!(turns.0.networks.lock().is_empty(), "finished requests leave no entry");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_waiter_leaves_the_queue() {
        let turns = FairQueue::new(1, 1);
        let served = turns.acquire("crowd").await.unwrap();
        assert!(timeout(SOON, turns.acquire("crowd")).await.is_err());
        assert!(timeout(SOON, turns.acquire("alone")).await.is_err());
        assert_eq!(turns.0.networks.lock().len(), 1);
        drop(served);
        assert!(timeout(SOON, turns.acquire("crowd")).await.unwrap().is_some());
        assert!(turns.0.networks.lock().is_empty());
    }
}
