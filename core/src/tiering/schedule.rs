//! When a run or a pass is due: cron with seconds in an IANA time zone, computed from scratch each time, so that a
//! change of daylight saving never causes an offset of an hour.

use chrono::{DateTime, SubsecRound, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};

use crate::config::TieringConfig;
use crate::context::Context;
use crate::db::schedules;
use crate::error::{Error, Result};

fn parse(pattern: &str) -> Result<Cron> {
    CronParser::builder()
        .seconds(Seconds::Required)
        .build()
        .parse(pattern)
        .map_err(|error| Error::Internal(format!("the schedule {pattern:?}: {error}")))
}

/// The first tick of an expression after `after`. `None` if it never ticks again.
///
/// # Errors
/// [`Error::Internal`] for an invalid expression, which the validation of the configuration prevents.
pub fn next(pattern: &str, zone: Tz, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    let local = whole_seconds(after).with_timezone(&zone);
    Ok(parse(pattern)?.find_next_occurrence(&local, false).ok().map(|tick| tick.with_timezone(&Utc)))
}

/// The latest tick of an expression after `last` that is not in the future. Several missed ticks count as one.
///
/// # Errors
/// Like [`next`].
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

/// The first tick of the nightly run after `after`. `None` if the schedule never ticks again.
///
/// # Errors
/// Like [`next`].
pub fn next_tick(config: &TieringConfig, after: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
    next(&config.schedule, config.time_zone, after)
}

/// The state of a schedule within one process, without queries.
#[derive(Debug, Default)]
pub struct Ticks {
    looked: bool,
    next: Option<DateTime<Utc>>,
}

/// A tick that is due.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// When it ticked.
    pub tick: DateTime<Utc>,
    /// Whether the tick was before this process started.
    pub was_missed: bool,
}

impl Ticks {
    /// The tick of the schedule `name` that is due, if any, until [`Self::handled`]. Makes no query until one is due.
    /// `None` if the clock of this machine is wrong.
    ///
    /// # Errors
    /// As [`next`]; any database error.
    pub async fn due(&mut self, context: &Context, name: &str, pattern: &str) -> Result<Option<Due>> {
        let now = context.clock.now();
        if self.looked && self.next.is_none_or(|next| now < next) {
            return Ok(None);
        }
        let mut conn = context.db.conn().await?;
        // The connection has just compared the clocks.
        if context.clock.is_wrong() {
            return Ok(None);
        }
        let now = context.clock.now();
        schedules::ensure(&mut conn, name, now).await?;
        if schedules::correct(&mut conn, name, now).await? {
            tracing::warn!(
                schedule = name,
                "a process with a wrong clock had recorded a tick in the future: it is replaced by the present"
            );
        }
        let last = schedules::last_tick(&mut conn, name).await?.unwrap_or(now);
        let Some(tick) = due(pattern, context.config.tiering.time_zone, last, now)? else {
            self.wait(context, pattern, now)?;
            return Ok(None);
        };
        Ok(Some(Due { tick, was_missed: !self.looked }))
    }

    /// Marks the due tick as taken, by this process or another.
    ///
    /// # Errors
    /// Like [`next`].
    pub fn handled(&mut self, context: &Context, pattern: &str) -> Result<()> {
        self.wait(context, pattern, context.clock.now())
    }

    fn wait(&mut self, context: &Context, pattern: &str, now: DateTime<Utc>) -> Result<()> {
        self.looked = true;
        self.next = next(pattern, context.config.tiering.time_zone, now)?;
        Ok(())
    }

    /// Takes the tick of the schedule `name` that is due, if any. Returns true in exactly one process; for a missed
    /// tick only if missed ticks are caught up.
    ///
    /// # Errors
    /// As [`Self::due`]; the tick is then not taken.
    pub async fn take_due(&mut self, context: &Context, name: &str, pattern: &str) -> Result<bool> {
        let Some(due) = self.due(context, name, pattern).await? else { return Ok(false) };
        let shift = context.clock.shift();
        let taken = schedules::take_tick(&mut *context.db.conn().await?, name, due.tick, shift).await?;
        self.handled(context, pattern)?;
        Ok(taken && (!due.was_missed || context.config.tiering.catch_up))
    }
}

/// Ticks are whole seconds: two workers that check at different moments must find the same tick.
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
    fn two_workers_find_the_same_tick_at_different_moments() {
        let config = tiering("* * * * * *", "UTC");
        let last = at("2026-01-01T00:00:00Z");
        let due_tick = |last, now| due(&config.schedule, config.time_zone, last, now);
        let first = due_tick(last, at("2026-01-01T00:00:05.120Z")).unwrap();
        let second = due_tick(last, at("2026-01-01T00:00:05.870Z")).unwrap();
        assert_eq!((first, second), (Some(at("2026-01-01T00:00:05Z")), Some(at("2026-01-01T00:00:05Z"))));
        assert_eq!(due_tick(at("2026-01-01T00:00:05Z"), at("2026-01-01T00:00:05.870Z")).unwrap(), None);
        assert_eq!(
            next_tick(&config, at("2026-01-01T00:00:05.870Z")).unwrap(),
            Some(at("2026-01-01T00:00:06Z"))
        );
    }

    #[test]
    fn midnight_is_stable_across_daylight_saving_changes() {
        let config = tiering("0 0 0 * * *", "Europe/Berlin");
        // Clocks go forward on 2026-03-29 at 01:00 UTC and back on 2026-10-25 at 01:00 UTC.
        assert_eq!(next_tick(&config, at("2026-03-28T12:00:00Z")).unwrap(), Some(at("2026-03-28T23:00:00Z")));
        assert_eq!(next_tick(&config, at("2026-03-29T12:00:00Z")).unwrap(), Some(at("2026-03-29T22:00:00Z")));
        assert_eq!(next_tick(&config, at("2026-10-25T12:00:00Z")).unwrap(), Some(at("2026-10-25T23:00:00Z")));
    }

    #[test]
    fn several_missed_nights_are_caught_up_once() {
        let config = tiering("0 0 0 * * *", "UTC");
        let now = at("2026-05-04T10:00:00Z");
        let due_tick = |last, now| due(&config.schedule, config.time_zone, last, now);
        assert_eq!(due_tick(now - Duration::days(3), now).unwrap(), Some(at("2026-05-04T00:00:00Z")));
        assert_eq!(due_tick(at("2026-05-04T00:00:00Z"), now).unwrap(), None);
        // A clock that jumped back finds nothing due.
        assert_eq!(due_tick(now, now - Duration::days(1)).unwrap(), None);
    }
}
