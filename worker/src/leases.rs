//! The leases that this worker currently holds. Only those are renewed: a copy whose outcome could not be recorded must
//! be reclaimed after its lease expires, even while the worker is alive.

use std::collections::HashMap;
use std::sync::Arc;

use nightferry_core::ids::LeaseToken;
use parking_lot::{Mutex, MutexGuard};

/// The current leases. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<HashMap<LeaseToken, usize>>>);

impl Leases {
    /// Keeps a lease alive until the returned guard is dropped.
    pub(crate) fn hold(&self, token: LeaseToken) -> Held {
        *self.counts().entry(token).or_default() += 1;
        Held { token, leases: self.clone() }
    }

    /// The leases to renew.
    pub(crate) fn tokens(&self) -> Vec<LeaseToken> {
        self.counts().keys().copied().collect()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<LeaseToken, usize>> {
        self.0.lock()
    }
}

/// Work under a lease: one copy of a batch.
#[derive(Debug)]
pub(crate) struct Held {
    token: LeaseToken,
    leases: Leases,
}

impl Held {
    pub(crate) fn token(&self) -> LeaseToken {
        self.token
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.leases.counts();
        if let Some(count) = counts.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_held_until_the_last_copy_of_its_batch_is_finished() {
        let leases = Leases::default();
        let token = LeaseToken::new();
        let (first, second) = (leases.hold(token), leases.hold(token));
        drop(first);
        assert_eq!(leases.tokens(), [second.token()]);
        drop(second);
        assert!(leases.tokens().is_empty());
    }
}
