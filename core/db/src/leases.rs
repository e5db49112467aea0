//! The `leases` table: work that at most one process may do at a time. A lease that is not renewed expires by the
//! database's clock, so a process that dies does not block the others.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Double, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::leases;
use crate::error::Result;
use crate::ids::LeaseToken;

/// Acquires a lease. Returns whether it was free or expired.
pub async fn take(
    conn: &mut AsyncPgConnection,
    name: &str,
    token: LeaseToken,
    life: Duration,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "INSERT INTO leases (name, token, until) VALUES ($1, $2, now() + make_interval(secs => $3)) \
         ON CONFLICT (name) DO UPDATE SET token = EXCLUDED.token, until = EXCLUDED.until WHERE leases.until < now()",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(life.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Renews a lease. Returns whether it is still held. An expired lease can be renewed until another process acquires it.
pub async fn renew(
    conn: &mut AsyncPgConnection,
    name: &str,
    token: LeaseToken,
    life: Duration,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE leases SET until = now() + make_interval(secs => $3) WHERE name = $1 AND token = $2",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(life.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Releases a lease.
pub async fn release(conn: &mut AsyncPgConnection, name: &str, token: LeaseToken) -> Result<()> {
    diesel::delete(leases::table.find(name).filter(leases::token.eq(token))).execute(conn).await?;
    Ok(())
}

/// Deletes leases that expired more than a day ago.
pub async fn purge(conn: &mut AsyncPgConnection) -> Result<usize> {
    Ok(diesel::sql_query("DELETE FROM leases WHERE until < now() - interval '1 day'").execute(conn).await?)
}
