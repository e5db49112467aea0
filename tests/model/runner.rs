//! Runs sequences on as many stages as keep the machine busy, and shortens a failing one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use crate::planted::Bug;
use crate::script::{BREAKABLE, script};
use crate::stage::{Stage, Tally};

/// Stages in this process. A sequence waits most of its time: for pauses between attempts, for the database.
const STAGES: usize = 8;
/// Number of sequences within which a planted bug must be found.
const MAX_PLANTED_SEQUENCES: u32 = 2000;
/// Number of sequences within which operations must have been interrupted at every step of the engine.
const ENOUGH: u32 = 2000;
/// Time limit for shortening a failing sequence.
const SHORTENING: Duration = Duration::from_secs(120);

/// The stores for the sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    InMemory,
    Real,
}

/// Number of sequences, the first seed, and the stores.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    first: u64,
    count: u32,
    servers: Servers,
    bug: Option<Bug>,
    /// Whether a failing sequence is shortened.
    shortens: bool,
}

/// A sequence that violated an invariant.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seed: u64,
    /// Number of sequences run until then.
    pub(crate) after: u32,
    pub(crate) how: String,
}

impl Plan {
    /// Runs `count` sequences, unless `NIGHTFERRY_MODEL_COUNT` and `NIGHTFERRY_MODEL_SEED` are set. With
    /// `NIGHTFERRY_MODEL_SHORTEN=no`, the first failing sequence is printed without shortening.
    pub(crate) fn from_environment(count: u32, servers: Servers) -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let count = number("NIGHTFERRY_MODEL_COUNT").map_or(count, |count| count as u32);
        let shortens = std::env::var("NIGHTFERRY_MODEL_SHORTEN").as_deref() != Ok("no");
        Self { first: number("NIGHTFERRY_MODEL_SEED").unwrap_or(1), count, servers, bug: None, shortens }
    }

    /// Runs sequences with a planted bug.
    pub(crate) const fn planted(bug: Bug, servers: Servers) -> Self {
        Self { first: 1, count: MAX_PLANTED_SEQUENCES, servers, bug: Some(bug), shortens: false }
    }

    /// Limits their number.
    pub(crate) const fn of(self, count: u32) -> Self {
        Self { count, ..self }
    }

    /// Fails the test with the shortest sequence that violates an invariant, if any.
    pub(crate) fn holds(self) {
        let began = Instant::now();
        let tally = Arc::new(Tally::default());
        println!("{} sequences from seed {} on, {:?}", self.count, self.first, self.servers);
        if let Some(found) = self.play(&tally) {
            let invariant = found.how.split(':').next().unwrap_or_default();
            println!(
                "{invariant} was broken, after {} sequences, in that of seed {}",
                found.after, found.seed
            );
            panic!(
                "{}\n\nIt is the sequence of seed {seed}, found after {} others. To repeat it:\n  \
                 NIGHTFERRY_MODEL_SEED={seed} NIGHTFERRY_MODEL_COUNT=1 cargo test --workspace --test model {test} -- --nocapture",
                found.how,
                found.after,
                seed = found.seed,
                test = if self.servers == Servers::Real { "real_servers" } else { "in_random_sequences" },
            );
        }
        let tally = tally.lock().unwrap();
        println!("{} sequences kept every invariant, in {:.0?}", self.count, began.elapsed());
        println!("operations were interrupted {} times: {tally:?}", tally.values().sum::<u32>());
        if self.count >= ENOUGH {
            let missed: Vec<_> = BREAKABLE.iter().filter(|step| !tally.contains_key(step)).collect();
            assert!(missed.is_empty(), "no operation was interrupted at {missed:?}");
        }
    }

    /// Returns the sequence that finds the planted bug.
    pub(crate) fn finds(self) -> Found {
        self.play(&Arc::default())
            .unwrap_or_else(|| panic!("{:?} was not found in {} sequences", self.bug, self.count))
    }

    fn play(self, tally: &Arc<Tally>) -> Option<Found> {
        let runtime = Runtime::new().unwrap();
        let next = AtomicU32::new(0);
        let found = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..STAGES.min(self.count as usize) {
                scope.spawn(|| self.play_on_one_stage(&runtime, tally, &next, &found));
            }
        });
        runtime.shutdown_background();
        found.into_inner().unwrap()
    }

    fn play_on_one_stage(
        self,
        runtime: &Runtime,
        tally: &Arc<Tally>,
        next: &AtomicU32,
        found: &Mutex<Option<Found>>,
    ) {
        let stage = Arc::new(tokio::sync::Mutex::new(runtime.block_on(Stage::new(self.servers, tally))));
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= self.count || found.lock().unwrap().is_some() {
                return;
            }
            let seed = self.first.wrapping_add(number.into());
            if let Err(how) = self.sequence(runtime, &stage, seed) {
                // No new sequence is started; this stage shortens its own first.
                found.lock().unwrap().get_or_insert(Found { seed, after: number, how });
                return;
            }
        }
    }

    /// Runs one sequence, and shortens it if it fails.
    fn sequence(self, runtime: &Runtime, stage: &tokio::sync::Mutex<Stage>, seed: u64) -> Result<(), String> {
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: if self.shortens { 2000 } else { 0 },
            max_shrink_time: SHORTENING.as_millis() as u32,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let played = runner.run(&script(), |script| {
            let played = runtime.block_on(async { stage.lock().await.play(&script, self.bug).await });
            played.map_err(TestCaseError::fail)
        });
        match played {
            Ok(()) => Ok(()),
            Err(TestError::Fail(reason, script)) => Err(format!("{reason}\n{script:#?}")),
            Err(TestError::Abort(reason)) => Err(format!("aborted: {reason}")),
        }
    }
}
