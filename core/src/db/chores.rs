//! The `chores` table: work that one worker at a time does. A lease that is not renewed runs out, by the database's
//! clock, so that a worker that dies keeps nobody from the work.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Double, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::chores;
use crate::error::Result;
use crate::ids::LeaseToken;

/// Takes a chore, or renews the lease on it. Answers whether it is ours.
pub async fn take(
    conn: &mut AsyncPgConnection,
    name: &str,
    token: LeaseToken,
    lease: Duration,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "INSERT INTO chores (name, lease_token, lease_until) VALUES ($1, $2, now() + make_interval(secs => $3)) \
         ON CONFLICT (name) DO UPDATE SET lease_token = EXCLUDED.lease_token, lease_until = EXCLUDED.lease_until \
         WHERE chores.lease_token = EXCLUDED.lease_token OR chores.lease_until < now()",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(lease.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Gives a chore back, for whoever comes next.
pub async fn give_back(conn: &mut AsyncPgConnection, name: &str, token: LeaseToken) -> Result<()> {
    diesel::delete(chores::table.find(name).filter(chores::lease_token.eq(token))).execute(conn).await?;
    Ok(())
}

/// Forgets chores that nobody has done for a day.
pub async fn purge(conn: &mut AsyncPgConnection) -> Result<usize> {
    Ok(diesel::sql_query("DELETE FROM chores WHERE lease_until < now() - interval '1 day'")
        .execute(conn)
        .await?)
}
