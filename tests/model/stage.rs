//! A world in which sequences run one after the other, cleared in between: creating one for each would take longer than
//! running it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel_async::SimpleAsyncConnection as _;
use nightferry_core::clock::Clock;
use nightferry_core::config::{FreeLocalAfter, TransferOrder, VerifyMode};
use nightferry_core::context::Context;
use nightferry_core::file::Files;
use nightferry_core::ids::UserId;
use nightferry_core::services::Services;
use nightferry_core::step::Step;
use nightferry_core::store::Canary;
use nightferry_core::tiering::Engine;
use nightferry_core::units::ByteCount;
use nightferry_tests::harness::fault_proxy::FaultProxy;
use nightferry_tests::harness::memory_s3::Writes;
use nightferry_tests::harness::{World, WorldBuilder};

use crate::check::{CREATE_MAP, LEASE};
use crate::op::{Place, Script, Settings};
use crate::planted::Bug;
use crate::rewind::CREATE_BACKUP;
use crate::runner::Servers;
use crate::sequence::Sequence;
use crate::truth::StoreContents;

/// Bytes in the local store above which copies are evicted, if they are not evicted anyway.
const CAPACITY: u64 = 5000;
/// Number of sequences after which dead rows are vacuumed.
const VACUUM_EVERY: u32 = 50;

/// A world in which sequences run one after another.
pub(crate) struct Stage {
    world: World,
    owner: UserId,
    played: u32,
    tally: Arc<Tally>,
}

/// How often operations were interrupted at each step.
pub(crate) type Tally = Mutex<BTreeMap<Step, u32>>;

impl Stage {
    pub(crate) async fn new(servers: Servers, tally: &Arc<Tally>) -> Self {
        let builder: WorldBuilder = World::with("tiering.lease", format!("{LEASE}s"))
            .set("tiering.heartbeat", "10s")
            .set("tiering.max_attempts", 3)
            // Sequential: a suspended operation blocks all other operations of its process.
            .set("tiering.concurrency", 1)
            .set("tiering.backoff_initial", "10ms")
            .set("tiering.backoff_cap", "50ms")
            .set("tiering.shutdown_grace", "1s")
            .set("tiering.schedule", "0 0 0 1 1 *")
            .set("database.pool_size", 6);
        let world = match servers {
            Servers::InMemory => builder.in_memory().build().await,
            Servers::Real => builder.build().await,
        };
        let mut conn = world.context.db.conn().await.unwrap();
        conn.batch_execute(CREATE_MAP).await.unwrap();
        conn.batch_execute(CREATE_BACKUP).await.unwrap();
        // Planning takes most of the time of a statement on tables of a few rows, so each is planned once per connection. The
        // server belongs to this process.
        conn.batch_execute("ALTER SYSTEM SET plan_cache_mode = force_generic_plan").await.unwrap();
        conn.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        drop(conn);
        let owner = world.user().await;
        Self { world, owner, played: 0, tally: Arc::clone(tally) }
    }

    /// Runs a sequence. The error names the violated invariant and the operation.
    pub(crate) async fn play(&mut self, script: &Script, bug: Option<Bug>) -> Result<(), String> {
        self.clean().await;
        let services = self.services(script.settings);
        Sequence::new(&self.world, services, self.owner, bug, &self.tally).play(script).await
    }

    fn services(&self, settings: Settings) -> Services {
        let clock = Clock::system();
        for store in self.world.memory.iter().flatten() {
            store.set_clock(&clock);
        }
        let mut config = (*self.world.context.config).clone();
        let tiering = &mut config.tiering;
        tiering.free_local_after =
            if settings.evicts { FreeLocalAfter::After(Duration::ZERO) } else { FreeLocalAfter::Never };
        tiering.local_capacity = (!settings.evicts).then_some(ByteCount(CAPACITY));
        tiering.evict_grace = Duration::from_secs(if settings.grace { 3600 } else { 0 });
        tiering.verify = if settings.read_back { VerifyMode::ReadBack } else { VerifyMode::Checksum };
        tiering.order = if settings.smallest_first { TransferOrder::Smallest } else { TransferOrder::Oldest };
        tiering.cache_on_read = settings.cache_on_read;
        if settings.in_parts {
            tiering.multipart_threshold_mib = 0;
        }
        let context = Context { config: Arc::new(config), clock, ..self.world.context.clone() };
        let (files, engine) = (Files::new(context.clone()), Engine::new(context.clone()));
        Services { context, files, engine, ..self.world.services.clone() }
    }

    /// Deletes everything of the last sequence except its owner.
    async fn clean(&mut self) {
        for place in Place::ALL {
            heal(&self.world, place).await;
            StoreContents::of(&self.world, place).clear().await;
            proxy(&self.world, place).forget_requests();
        }
        let mut conn = self.world.context.db.conn().await.unwrap();
        conn.batch_execute(
            "DELETE FROM observed.ends; DELETE FROM transfer_parts; DELETE FROM run_failures; DELETE FROM replicas; \
             DELETE FROM runs; DELETE FROM files; DELETE FROM objects; DELETE FROM audit_events; DELETE FROM passes; \
             DELETE FROM leases; DELETE FROM workers; DELETE FROM schedules; UPDATE users SET used_bytes = 0",
        )
        .await
        .unwrap();
        self.played += 1;
        if self.played.is_multiple_of(VACUUM_EVERY) {
            for table in [
                "observed.ends",
                "run_failures",
                "replicas",
                "runs",
                "files",
                "file_versions",
                "objects",
                "users",
            ] {
                conn.batch_execute(&format!("VACUUM {table}")).await.unwrap();
            }
        }
    }
}

/// The fault proxy in front of a store.
pub(crate) fn proxy(world: &World, place: Place) -> &FaultProxy {
    match place {
        Place::Local => &world.local,
        Place::Cloud => &world.cloud,
    }
}

/// Ends all faults of a store.
pub(crate) async fn heal(world: &World, place: Place) {
    proxy(world, place).clear();
    proxy(world, place).up().await;
    if let Some([local, cloud]) = &world.memory {
        let store = if place == Place::Local { local } else { cloud };
        store.set_writes(Writes::Sound);
        // As the next canaries show.
        world.context.stores.get(place.name()).unwrap().use_canary(Canary::strict());
    }
}
