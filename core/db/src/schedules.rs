//! The `schedules` table: the last tick of each schedule that was turned into a run.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
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

/// Takes a tick. Returns whether this process took it: of all workers that try, exactly one does.
pub async fn take_tick(conn: &mut AsyncPgConnection, name: &str, tick: DateTime<Utc>) -> Result<bool> {
    let changed = diesel::update(schedules::table.find(name).filter(schedules::last_tick.lt(tick)))
        .set((schedules::last_tick.eq(tick), schedules::updated_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}
