//! Turns at something that only a few can do at once, shared fairly: each network has a line of its own, of which no more
//! stand in the common one than could be served at once. So whoever comes alone stands behind few, however long the other
//! lines are.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Served in the order in which they came.
    slots: Arc<Semaphore>,
    at_once: usize,
    longest: usize,
    /// Of the networks from which somebody waits or is served, and of nobody else.
    lines: Mutex<HashMap<String, Line>>,
}

#[derive(Debug)]
struct Line {
    /// Lets as many into the common line as can be served at once.
    gate: Arc<Semaphore>,
    people: usize,
}

/// A turn; over when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    // In this order: who is next of the same network stands behind those of others who wait already.
    _slot: OwnedSemaphorePermit,
    _gate: OwnedSemaphorePermit,
    _place: Place,
}

/// A place in the line of a network.
#[derive(Debug)]
struct Place {
    shared: Arc<Shared>,
    network: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.shared.lines.lock();
        if let Some(line) = lines.get_mut(&self.network) {
            line.people -= 1;
            if line.people == 0 {
                lines.remove(&self.network);
            }
        }
    }
}

impl Turns {
    /// Serves `at_once` at a time, and has room for `longest` more of each network to wait.
    pub(super) fn new(at_once: usize, longest: usize) -> Self {
        let slots = Arc::new(Semaphore::new(at_once));
        Self(Arc::new(Shared { slots, at_once, longest, lines: Mutex::default() }))
    }

    /// Waits for a turn. None, at once, when the network's line is full.
    pub(super) async fn take(&self, network: &str) -> Option<Turn> {
        let (place, gate) = self.stand_in_line(network)?;
        // Neither is ever closed.
        let gate = gate.acquire_owned().await.ok()?;
        let slot = self.0.slots.clone().acquire_owned().await.ok()?;
        Some(Turn { _slot: slot, _gate: gate, _place: place })
    }

    fn stand_in_line(&self, network: &str) -> Option<(Place, Arc<Semaphore>)> {
        let shared = &self.0;
        let mut lines = shared.lines.lock();
        let line = lines
            .entry(network.to_owned())
            .or_insert_with(|| Line { gate: Arc::new(Semaphore::new(shared.at_once)), people: 0 });
        if line.people >= shared.at_once.saturating_add(shared.longest) {
            return None;
        }
        line.people += 1;
        let place = Place { shared: shared.clone(), network: network.to_owned() };
        Some((place, line.gate.clone()))
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
    async fn who_comes_alone_stands_before_the_rest_of_a_long_line() {
        let turns = Turns::new(2, 10);
        let served = [turns.take("crowd").await.unwrap(), turns.take("crowd").await.unwrap()];
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                tokio::spawn({
                    let turns = turns.clone();
                    async move { turns.take("crowd").await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(turns.take("crowd").now_or_never().unwrap().is_none(), "the line is full");
        let alone = turns.take("alone");
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
        assert!(turns.0.lines.lock().is_empty(), "nobody is remembered who has gone");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_line() {
        let turns = Turns::new(1, 1);
        let served = turns.take("crowd").await.unwrap();
        assert!(timeout(SOON, turns.take("crowd")).await.is_err());
        assert!(timeout(SOON, turns.take("alone")).await.is_err());
        assert_eq!(turns.0.lines.lock().len(), 1);
        drop(served);
        assert!(timeout(SOON, turns.take("crowd")).await.unwrap().is_some());
        assert!(turns.0.lines.lock().is_empty());
    }
}
