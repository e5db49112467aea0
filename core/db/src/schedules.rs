//! The `schedules` table: the last tick of each schedule that was turned into a run.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Double, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::schedules;
use crate::error::Result;

/// Registers the schedule, as if it had ticked at `now`; does nothing if it is registered. A new installation therefore
/// does not catch up on ticks before its time.
pub async fn ensure(conn: &mut AsyncPgConnection, name: &str, now: DateTime<Utc>) -> Result<()> {
    diesel::insert_into(schedules::table)
        .values((schedules::name.eq(name), schedules::last_tick.eq(now)))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The last tick taken.
pub async fn last_tick(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<DateTime<Utc>>> {
    Ok(schedules::table.find(name).select(schedules::last_tick).first(conn).await.optional()?)
}

/// Takes a tick. Returns whether this process took it: of all workers that try, exactly one does. A tick that is more
/// than a minute in the future is never recorded, because no process would take another one before it. `shift` is the
/// time by which a test has moved the clock.
pub async fn take_tick(
    conn: &mut AsyncPgConnection,
    name: &str,
    tick: DateTime<Utc>,
    shift: TimeDelta,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE schedules SET last_tick = $2, updated_at = now() \
         WHERE name = $1 AND last_tick < $2 AND $2 <= now() + make_interval(secs => $3) + interval '1 minute'",
    )
    .bind::<Text, _>(name)
    .bind::<Timestamptz, _>(tick)
    .bind::<Double, _>(shift.as_seconds_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Corrects the last tick of a schedule that is more than a day after `now`: a process with a wrong clock recorded it,
/// and nothing would be due until then. Returns whether that was so. Ticks of the last day are kept, so that a database
/// whose clock is set back does not repeat a night.
pub async fn correct(conn: &mut AsyncPgConnection, name: &str, now: DateTime<Utc>) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE schedules SET last_tick = $2, updated_at = now() \
         WHERE name = $1 AND last_tick > $2::timestamptz + interval '1 day'",
    )
    .bind::<Text, _>(name)
    .bind::<Timestamptz, _>(now)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}
