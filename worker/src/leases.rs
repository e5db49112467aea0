//! The leases that this worker is working under at this moment. Only those are renewed: a copy whose outcome could
//! not be recorded must be found by its lease running out, also while the worker lives on.

use std::collections::HashMap;
use std::sync::Arc;

use nightferry_core::ids::LeaseToken;
use parking_lot::{Mutex, MutexGuard};

/// See the module. Clones are the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<HashMap<LeaseToken, usize>>>);

impl Leases {
    /// Keeps a lease alive until what is answered is dropped.
    pub(crate) fn hold(&self, token: LeaseToken) -> Held {
        *self.counts().entry(token).or_default() += 1;
        Held { token, leases: self.clone() }
    }

    /// What is to be renewed.
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
    fn a_lease_is_held_until_the_last_copy_of_its_batch_is_over() {
        let leases = Leases::default();
        let token = LeaseToken::new();
        let (first, second) = (leases.hold(token), leases.hold(token));
        drop(first);
        assert_eq!(leases.tokens(), [second.token()]);
        drop(second);
        assert!(leases.tokens().is_empty());
    }
}
