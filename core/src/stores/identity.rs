//! The identities of the stores as last seen by this process. [`crate::object::identity`] reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

/// Whether a store is the one that the database knows by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The bucket has the recorded marker.
    Proven(Uuid),
    /// An identity is recorded, and the bucket has no marker: another bucket, or the store was emptied.
    Missing {
        /// The recorded identity.
        recorded: Uuid,
    },
    /// The bucket has another marker than the recorded one.
    Changed {
        /// The recorded identity.
        recorded: Uuid,
        /// The identity in the bucket.
        found: Uuid,
    },
    /// The bucket has the marker that is recorded for another store.
    Shared {
        /// The other store.
        with: String,
    },
    /// The marker, or the recorded identity, could not be read, for this reason.
    Unknown(String),
}

impl Identity {
    /// Whether the store is the recorded one.
    pub fn is_proven(&self) -> bool {
        matches!(self, Self::Proven(_))
    }

    /// Whether the store is known not to be the recorded one.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::Changed { .. } | Self::Shared { .. })
    }

    /// `ok`, `missing`, `changed`, `shared` or `unknown`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Proven(_) => "ok",
            Self::Missing { .. } => "missing",
            Self::Changed { .. } => "changed",
            Self::Shared { .. } => "shared",
            Self::Unknown(_) => "unknown",
        }
    }

    /// What is wrong, as text; `None` if the identity is proven.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Proven(_) => None,
            Self::Missing { recorded } => Some(format!(
                "its bucket has no identity marker, but the database recorded {recorded}: it is another \
                 bucket, or it was emptied"
            )),
            Self::Changed { recorded, found } => Some(format!(
                "its bucket has the identity {found}, but the database recorded {recorded}: it is another \
                 bucket"
            )),
            Self::Shared { with } => {
                Some(format!("its bucket is the one that is recorded for the store {with}"))
            }
            Self::Unknown(why) => Some(format!("its identity could not be checked: {why}")),
        }
    }
}

/// The last known identity of each store. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Identities(Arc<Mutex<BTreeMap<String, (Instant, Identity)>>>);

impl Identities {
    /// The last known identity of a store, of any age; `None` if it was never known.
    pub fn of(&self, store: &str) -> Option<Identity> {
        self.0.lock().get(store).map(|(_, identity)| identity.clone())
    }

    /// The identity of a store, if it was seen at most `max_age` ago.
    pub(crate) fn fresh(&self, store: &str, max_age: Duration) -> Option<Identity> {
        let known = self.0.lock();
        known.get(store).filter(|(seen, _)| seen.elapsed() <= max_age).map(|(_, identity)| identity.clone())
    }

    /// Whether the store is known not to be the recorded one.
    pub fn is_in_doubt(&self, store: &str) -> bool {
        self.0.lock().get(store).is_some_and(|(_, identity)| identity.is_in_doubt())
    }

    /// Records what was seen just now, and returns what was known before. An unknown identity replaces nothing.
    pub fn saw(&self, store: &str, identity: &Identity) -> Option<Identity> {
        let mut known = self.0.lock();
        if matches!(identity, Identity::Unknown(_)) {
            return known.get(store).map(|(_, identity)| identity.clone());
        }
        known.insert(store.to_owned(), (Instant::now(), identity.clone())).map(|(_, before)| before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_marker_neither_proves_nor_clears_a_doubt() {
        let identities = Identities::default();
        let unknown = Identity::Unknown("no answer".to_owned());
        identities.saw("a", &unknown);
        assert_eq!(identities.of("a"), None);
        assert!(!identities.is_in_doubt("a"));
        identities.saw("a", &Identity::Missing { recorded: Uuid::nil() });
        identities.saw("a", &unknown);
        assert!(identities.is_in_doubt("a"));
        identities.saw("a", &Identity::Proven(Uuid::nil()));
        assert!(!identities.is_in_doubt("a") && !identities.is_in_doubt("b"));
    }

    #[test]
    fn only_a_recent_proof_is_fresh() {
        let identities = Identities::default();
        identities.saw("a", &Identity::Proven(Uuid::nil()));
        assert!(identities.fresh("a", Duration::from_secs(60)).is_some());
        assert_eq!(identities.fresh("b", Duration::from_secs(60)), None);
    }
}
