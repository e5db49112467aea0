//! The leases that this worker currently holds. Only those are renewed: a copy whose outcome could not be recorded must
//! be reclaimed after its lease expires, even while the worker is alive.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use nightferry_core::ids::LeaseToken;
use nightferry_core::tiering::copy::CopyLease;
use parking_lot::Mutex;

/// The current leases. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<HashMap<LeaseToken, CopyLease>>>);

impl Leases {
    /// Keeps a lease alive until the returned guard is dropped.
    pub(crate) fn hold(&self, lease: CopyLease) -> Held {
        self.0.lock().insert(lease.token(), lease.clone());
        Held { lease, leases: self.clone() }
    }

    /// The leases to renew.
    pub(crate) fn tokens(&self) -> Vec<LeaseToken> {
        self.0.lock().keys().copied().collect()
    }

    /// Records the result of a renewal of these leases that began at `at`: their copies must not change anything at
    /// their destination once the lease is lost.
    pub(crate) fn renewed(&self, asked: &[LeaseToken], renewed: &[LeaseToken], at: Instant) {
        let renewed: HashSet<&LeaseToken> = renewed.iter().collect();
        let held = self.0.lock();
        for lease in asked.iter().filter_map(|token| held.get(token)) {
            if renewed.contains(&lease.token()) {
                lease.renewed(at);
            } else {
                lease.lost();
            }
        }
    }
}

/// Work on one copy under its lease.
#[derive(Debug)]
pub(crate) struct Held {
    lease: CopyLease,
    leases: Leases,
}

impl Held {
    pub(crate) fn lease(&self) -> &CopyLease {
        &self.lease
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.0.lock().remove(&self.lease.token());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_copy_has_its_own_lease_until_it_is_finished() {
        let leases = Leases::default();
        let lease = || CopyLease::new(LeaseToken::new(), Duration::from_secs(60), Instant::now());
        let (first, second) = (leases.hold(lease()), leases.hold(lease()));
        assert_eq!(leases.tokens().len(), 2);
        drop(first);
        assert_eq!(leases.tokens(), [second.lease().token()]);
        drop(second);
        assert!(leases.tokens().is_empty());
    }
}
