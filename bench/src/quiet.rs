//! Whether the machine is idle enough for measurements: the load of other programs distorts all results, so it is
//! awaited, monitored during each measurement, and reported.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::proc;

/// A measurement is repeated if other programs used more of the processors than this.
const MAX_NOISE: f64 = 0.06;
/// Maximum number of repetitions of one measurement.
const MAX_ATTEMPTS: u32 = 4;
const LOOK: Duration = Duration::from_secs(1);

/// Waits for a quiet machine and records the remaining load.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    within: Duration,
    noise: Vec<f64>,
    repeated: u32,
}

/// The processor use of other programs between two samples.
struct Sample {
    at: Instant,
    busy: Duration,
    ours: Duration,
}

impl Sample {
    fn take() -> Result<Self> {
        let ours = proc::cpu_of_tree(std::process::id());
        Ok(Self { at: Instant::now(), busy: proc::busy()?, ours })
    }

    /// Share of all processors used by other programs since `self`.
    fn noise(&self) -> Result<f64> {
        let now = Self::take()?;
        let others = (now.busy.saturating_sub(self.busy)).saturating_sub(now.ours.saturating_sub(self.ours));
        Ok(others.as_secs_f64() / ((now.at - self.at).as_secs_f64() * cores()).max(0.001))
    }
}

/// Flushes the disk, so that a measurement is not affected by earlier writes.
pub(crate) async fn flush() -> Result<()> {
    tokio::process::Command::new("sync").status().await?;
    Ok(())
}

/// Number of processors.
pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism()
        .map_or(1.0, |cores| f64::from(u32::try_from(cores.get()).unwrap_or(1)))
}

impl Quiet {
    pub(crate) fn within(within: Duration) -> Self {
        Self { within, ..Self::default() }
    }

    /// Measures when the machine is quiet; repeats the measurement if it was not.
    pub(crate) async fn measure<T>(&mut self, mut act: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        for tries in 1.. {
            self.wait().await?;
            let before = Sample::take()?;
            let value = act().await?;
            let noise = before.noise()?;
            if noise <= MAX_NOISE || tries >= MAX_ATTEMPTS {
                self.noise.push(noise);
                return Ok(value);
            }
            self.repeated += 1;
            eprintln!(
                "  other programs used {:.0} % of the processors: repeating the measurement",
                noise * 100.0
            );
        }
        anyhow::bail!("nothing was measured")
    }

    /// Flushes the disk, then waits until other programs are idle or the time is up.
    pub(crate) async fn wait(&self) -> Result<()> {
        flush().await?;
        let start = Instant::now();
        loop {
            let sample = Sample::take()?;
            tokio::time::sleep(LOOK).await;
            let noise = sample.noise()?;
            if noise <= MAX_NOISE || start.elapsed() >= self.within {
                return Ok(());
            }
        }
    }

    /// A description of the load.
    pub(crate) fn summary(&self) -> String {
        let worst = self.noise.iter().copied().fold(0.0, f64::max);
        let mean =
            self.noise.iter().sum::<f64>() / f64::from(u32::try_from(self.noise.len()).unwrap_or(1).max(1));
        format!(
            "other programs used {:.0} % of the processors on average and {:.0} % at worst during the {} measurements; \
             {} noisier ones were repeated",
            mean * 100.0,
            worst * 100.0,
            self.noise.len(),
            self.repeated
        )
    }
}
