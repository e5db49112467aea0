//! Supervises the servers: one that exits is restarted, a limited number of times, with increasing pauses.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::error::UpError;
use crate::parts::Parts;
use crate::report::{Notice, Reporter};

const POLL_INTERVAL: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// The number of consecutive exits after which a server is not restarted.
const MAX_EXITS: u32 = 5;
/// The uptime after which earlier exits no longer count.
const RECOVERED_AFTER: Duration = Duration::from_secs(120);

/// The exits of each server. Keep it across calls of [`Watch::until_one_stays_dead`].
#[derive(Debug, Default)]
pub struct Watch {
    deaths: HashMap<String, (u32, Instant)>,
}

impl Watch {
    /// Watches until a server cannot be restarted, and returns why. Dropping the future is always safe.
    pub async fn until_one_stays_dead(&mut self, parts: &mut Parts, reporter: &dyn Reporter) -> UpError {
        loop {
            if let Err(error) = self.look(parts, reporter).await {
                return error;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn look(&mut self, parts: &mut Parts, reporter: &dyn Reporter) -> Result<(), UpError> {
        for server in parts.servers_mut() {
            let Some(status) = server.exited()? else { continue };
            let name = server.name().to_owned();
            let times = self.count(&name);
            let end = server.log_end();
            if times > MAX_EXITS {
                return Err(UpError::Other(format!(
                    "{name} exited {MAX_EXITS} times in a row, the last time with {status}; the end of {end}"
                )));
            }
            let pause = (FIRST_PAUSE * 2_u32.saturating_pow(times.saturating_sub(1))).min(MAX_PAUSE);
            let seconds = pause.as_secs_f32();
            reporter.tell(Notice::Warning(&format!(
                "{name} exited ({status}); restarting it in {seconds} s. The end of {end}"
            )));
            sleep(pause).await;
            match server.restart().await {
                Ok(()) => reporter.tell(Notice::Step(&format!("{name} is running again"))),
                // It has exited again, which the next check notices and counts.
                Err(error @ (UpError::EndedEarly { .. } | UpError::NotReady { .. })) => {
                    reporter.tell(Notice::Warning(&error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn count(&mut self, name: &str) -> u32 {
        let now = Instant::now();
        let (times, last) = self.deaths.entry(name.to_owned()).or_insert((0, now));
        *times = if now.duration_since(*last) > RECOVERED_AFTER { 1 } else { *times + 1 };
        *last = now;
        *times
    }
}
