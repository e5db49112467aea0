//! Whether the database contains no objects while stores do, as last seen by this process.
//! [`crate::object::empty_catalogue`] checks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The stores that contain objects while the database contained none, each with the key of one that the database still
/// does not know. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct EmptyCatalogue(Arc<Mutex<BTreeMap<String, String>>>);

impl EmptyCatalogue {
    /// Whether there are such stores. While there are, nothing is deleted.
    pub fn is_beside_objects(&self) -> bool {
        !self.0.lock().is_empty()
    }

    /// The names of the stores.
    pub fn stores(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    pub(crate) fn samples(&self) -> BTreeMap<String, String> {
        self.0.lock().clone()
    }

    /// Replaces what was seen. Returns whether there were such stores before.
    pub(crate) fn saw(&self, samples: BTreeMap<String, String>) -> bool {
        !std::mem::replace(&mut *self.0.lock(), samples).is_empty()
    }
}
