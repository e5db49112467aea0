//! A bucket is exchanged for another, empty one, and later back: by a mistake in the settings, for example. The processes
//! notice it, as each does once per `health.interval`.

use nightferry_core::checksum::Sha256;
use nightferry_core::context::Context;
use nightferry_core::object::identity;
use nightferry_tests::harness::eventually;

use crate::op::{Act, Place};
use crate::sequence::Sequence;

impl Sequence<'_> {
    /// Executes operations while the name of a store points at another bucket. What they write there is lost, and what
    /// they delete somewhere because of it is a bug. The real servers keep their buckets.
    pub(crate) async fn exchanged(&mut self, place: Place, acts: &[Act]) -> Result<(), String> {
        let world = self.world;
        let Some([local, cloud]) = &world.memory else { return Ok(()) };
        let server = if place == Place::Local { local } else { cloud };
        server.exchange();
        self.see_identity(place, "missing").await;
        let mut done = Ok(());
        for act in acts {
            done = self.act(*act, None).await;
            if done.is_err() {
                break;
            }
        }
        let written = server.bring_back();
        self.see_identity(place, "ok").await;
        done?;
        let objects = server.objects();
        let is_there =
            |key: &str, content: Sha256| objects.get(key).is_some_and(|kept| kept.sha256 == content);
        let versions = self.oracle.versions.iter().filter(|version| !version.purged);
        let lost: Vec<_> = versions
            .filter(|version| written.contains_key(&version.key) && !is_there(&version.key, version.sha256))
            .map(|version| (place, version.key.clone()))
            .collect();
        self.oracle.destroyed.extend(lost);
        // It compared the rows with the other bucket.
        self.oracle.reconciled = None;
        Ok(())
    }

    /// Reads the marker of a store, without its faults, until the result is the one that is `wanted`.
    async fn see_identity(&self, place: Place, wanted: &str) {
        let direct = Context { stores: self.world.direct.clone(), ..self.context.clone() };
        let store = direct.stores.get(place.name()).unwrap();
        let identities = self.context.stores.health().identities();
        eventually("the marker of a store is read", || async {
            let identity = identity::check(&direct, store).await;
            identities.saw(place.name(), &identity);
            (identity.word() == wanted).then_some(())
        })
        .await;
    }
}
