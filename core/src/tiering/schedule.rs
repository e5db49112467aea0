//! When the nightly run is due: cron with seconds in an IANA time zone, computed anew each time so that a change
//! of daylight saving is never off by an hour.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::config::TieringConfig;
use crate::error::{Error, Result};

fn parse(config: &TieringConfig) -> Result<Cron> {
    CronParser::builder()
        .seconds(Seconds::Required)
        .build()
        .parse(&config.schedule)
        .map_err(|error| Error::Internal(format!("tiering.schedule {:?}: {error}", config.schedule)))
}

/// The first tick after `after`. None when the schedule never ticks again.
///
/// # Errors
/// [`Error::Internal`] for a pattern that the configuration's validation should have refused.
pub fn next_tick(config: &TieringConfig, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    let local = after.with_timezone(&config.time_zone);
    Ok(parse(config)?.find_next_occurrence(&local, false).ok().map(|tick| tick.with_timezone(&Utc)))
}

/// The latest tick after `last` that is not in the future: what a worker that was away has missed. Several missed
/// ticks count as one.
///
/// # Errors
/// As [`next_tick`].
pub fn due_tick(
    config: &TieringConfig,
    last: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let cron = parse(config)?;
    let local = now.with_timezone(&config.time_zone);
    let latest = cron.find_previous_occurrence(&local, true).ok().map(|tick| tick.with_timezone(&Utc));
    Ok(latest.filter(|tick| *tick > last && *tick <= now))
}
