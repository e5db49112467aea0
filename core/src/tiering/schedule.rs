//! When a run or a pass is due: cron with seconds in an IANA time zone, computed anew each time so that a change
//! of daylight saving is never off by an hour.

use chrono::{DateTime, SubsecRound, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::config::TieringConfig;
use crate::error::{Error, Result};

fn parse(pattern: &str) -> Result<Cron> {
    CronParser::builder()
        .seconds(Seconds::Required)
        .build()
        .parse(pattern)
        .map_err(|error| Error::Internal(format!("the schedule {pattern:?}: {error}")))
}

/// The first tick of a pattern after `after`. None when it never ticks again.
///
/// # Errors
/// [`Error::Internal`] for a pattern that the configuration's validation should have refused.
pub fn next(pattern: &str, zone: Tz, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    let local = whole_seconds(after).with_timezone(&zone);
    Ok(parse(pattern)?.find_next_occurrence(&local, false).ok().map(|tick| tick.with_timezone(&Utc)))
}

/// The latest tick of a pattern after `last` that is not in the future. Several missed ticks count as one.
///
/// # Errors
/// As [`next`].
pub fn due(
    pattern: &str,
    zone: Tz,
    last: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let local = whole_seconds(now).with_timezone(&zone);
    let latest = parse(pattern)?.find_previous_occurrence(&local, true).ok();
    Ok(latest.map(|tick| tick.with_timezone(&Utc)).filter(|tick| *tick > last && *tick <= now))
}

/// The first tick of the nightly run after `after`. None when the schedule never ticks again.
///
/// # Errors
/// [`Error::Internal`] for a pattern that the configuration's validation should have refused.
pub fn next_tick(config: &TieringConfig, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    next(&config.schedule, config.time_zone, after)
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
    due(&config.schedule, config.time_zone, last, now)
}

/// Ticks are whole seconds: two workers that look at different moments must find the same tick.
fn whole_seconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(0)
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;
    use crate::config::{Config, LoadOptions};

    fn tiering(schedule: &str, time_zone: &str) -> TieringConfig {
        let overrides = [
            ("tiering.schedule", schedule),
            ("tiering.time_zone", time_zone),
            ("database.url", "postgres://localhost/unused"),
            ("auth.secret_key", "0123456789abcdef0123456789abcdef"),
            ("stores.minio.access_key", "unused"),
            ("stores.minio.secret_key", "unused"),
            ("stores.s3.bucket", "unused"),
            ("stores.s3.access_key", "unused"),
            ("stores.s3.secret_key", "unused"),
        ];
        let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        Config::load(LoadOptions { overrides, ..LoadOptions::default() }).unwrap().tiering
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn two_workers_that_look_at_different_moments_find_the_same_tick() {
        let config = tiering("* * * * * *", "UTC");
        let last = at("2026-01-01T00:00:00Z");
        let first = due_tick(&config, last, at("2026-01-01T00:00:05.120Z")).unwrap();
        let second = due_tick(&config, last, at("2026-01-01T00:00:05.870Z")).unwrap();
        assert_eq!((first, second), (Some(at("2026-01-01T00:00:05Z")), Some(at("2026-01-01T00:00:05Z"))));
        assert_eq!(
            due_tick(&config, at("2026-01-01T00:00:05Z"), at("2026-01-01T00:00:05.870Z")).unwrap(),
            None
        );
        assert_eq!(
            next_tick(&config, at("2026-01-01T00:00:05.870Z")).unwrap(),
            Some(at("2026-01-01T00:00:06Z"))
        );
    }

    #[test]
    fn midnight_stays_midnight_over_a_change_of_daylight_saving() {
        let config = tiering("0 0 0 * * *", "Europe/Berlin");
        // Clocks go forward on 2026-03-29 at 01:00 UTC and back on 2026-10-25 at 01:00 UTC.
        assert_eq!(next_tick(&config, at("2026-03-28T12:00:00Z")).unwrap(), Some(at("2026-03-28T23:00:00Z")));
        assert_eq!(next_tick(&config, at("2026-03-29T12:00:00Z")).unwrap(), Some(at("2026-03-29T22:00:00Z")));
        assert_eq!(next_tick(&config, at("2026-10-25T12:00:00Z")).unwrap(), Some(at("2026-10-25T23:00:00Z")));
    }

    #[test]
    fn nights_that_were_missed_count_as_one() {
        let config = tiering("0 0 0 * * *", "UTC");
        let now = at("2026-05-04T10:00:00Z");
        assert_eq!(
            due_tick(&config, now - Duration::days(3), now).unwrap(),
            Some(at("2026-05-04T00:00:00Z"))
        );
        assert_eq!(due_tick(&config, at("2026-05-04T00:00:00Z"), now).unwrap(), None);
        // A clock that jumped back finds nothing due.
        assert_eq!(due_tick(&config, now, now - Duration::days(1)).unwrap(), None);
    }
}
