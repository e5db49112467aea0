//! Checks of a pooled connection when it is handed out: that it works, that a state of the server that passes is not
//! kept by it, and what time it is for the database.

use std::time::Instant;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as Diesel};
use diesel::sql_types::{Bool, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::clock::Clock;
use crate::error::Result;
use crate::prepared::Prepared;

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    is_stale: bool,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// Checks a connection in one round trip, and compares the clocks.
///
/// A read-only session is refused, and thereby closed, unless it was opened within the last second: after a failover,
/// the connection may still lead to the former primary, or the session may have started while all were read-only. A new
/// session is used in either case, so that reads go on while the database is read-only.
pub(super) async fn check(conn: &mut AsyncPgConnection, clock: &Clock) -> QueryResult<()> {
    let sent = Instant::now();
    let session: Session = Prepared(diesel::sql_query(
        "SELECT clock_timestamp() AS now, CASE WHEN current_setting('transaction_read_only') = 'on' THEN EXISTS ( \
             SELECT FROM pg_stat_get_activity(pg_backend_pid()) \
             WHERE backend_start < clock_timestamp() - interval '1 second') ELSE false END AS is_stale",
    ))
    .get_result(conn)
    .await?;
    clock.compare(session.now, sent.elapsed());
    tell(clock);
    if session.is_stale {
        let reason = "the session is read-only; opening another one".to_owned();
        return Err(Diesel::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, Box::new(reason)));
    }
    Ok(())
}

/// Logs when the clock of this machine has become wrong, and when it is right again.
fn tell(clock: &Clock) {
    match clock.news() {
        Some(true) => tracing::warn!(
            ahead_seconds = clock.ahead().num_seconds(),
            "the clock of this machine differs from that of the database by more than a minute: until it is set \
                (NTP), this process takes no part in schedules and cleanup"
        ),
        Some(false) => tracing::info!("the clock of this machine agrees with that of the database again"),
        None => {}
    }
}

/// Whether the session can write: not on a standby, nor while the server is set to be read-only.
pub async fn is_writable(conn: &mut AsyncPgConnection) -> Result<bool> {
    let answer: Answer =
        Prepared(diesel::sql_query("SELECT current_setting('transaction_read_only') = 'off' AS yes"))
            .get_result(conn)
            .await?;
    Ok(answer.yes)
}
