//! Copies that are freed: claimed under the locks that prove another one, deleted, and let go of.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::enums::ReplicaState;
use crate::db::schema::replicas;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};

/// Which copies to free, and under which lease.
#[derive(Debug)]
pub struct EvictionClaim<'a> {
    /// Store to free.
    pub local: &'a str,
    /// Store that must hold a verified replica.
    pub cloud: &'a str,
    /// Since at least this long.
    pub after: Duration,
    /// Who frees.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Life of the lease.
    pub lease: Duration,
}

/// Marks present copies that may be freed as `evicting`: verified elsewhere for long enough, of files that nobody
/// pinned. The other replica is seen under a row lock, so that of two evictions at once only one can win.
pub async fn claim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    limit: i64,
) -> Result<Vec<(ObjectId, String)>> {
    let rows: Vec<Evicting> = diesel::sql_query(
        "WITH candidates AS ( \
             SELECT l.object_id FROM replicas l \
             JOIN replicas c ON c.object_id = l.object_id AND c.store = $2 AND c.state = 'present' \
                  AND c.verified_at <= now() - make_interval(secs => $3) \
             WHERE l.store = $1 AND l.state = 'present' \
               AND NOT EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
                               WHERE v.object_id = l.object_id AND f.pinned) \
             LIMIT $4 FOR UPDATE OF l, c SKIP LOCKED \
         ) \
         UPDATE replicas r SET state = 'evicting', lease_token = $5, lease_worker = $6, \
                lease_until = now() + make_interval(secs => $7) \
         FROM candidates n JOIN objects o ON o.id = n.object_id \
         WHERE r.object_id = n.object_id AND r.store = $1 AND r.state = 'present' \
         RETURNING r.object_id, o.key",
    )
    .bind::<Text, _>(claim.local)
    .bind::<Text, _>(claim.cloud)
    .bind::<Double, _>(claim.after.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .bind::<SqlUuid, _>(claim.token)
    .bind::<SqlUuid, _>(claim.worker)
    .bind::<Double, _>(claim.lease.as_secs_f64())
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.object_id, row.key)).collect())
}

/// Takes over evictions whose worker died, to finish them.
pub async fn reclaim_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    worker: WorkerId,
    token: LeaseToken,
    lease: Duration,
) -> Result<Vec<(ObjectId, String)>> {
    let rows: Vec<Evicting> = diesel::sql_query(
        "UPDATE replicas r SET lease_token = $2, lease_worker = $3, \
                lease_until = now() + make_interval(secs => $4) \
         FROM objects o WHERE o.id = r.object_id AND r.store = $1 AND r.state = 'evicting' \
           AND r.lease_until < now() RETURNING r.object_id, o.key",
    )
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<SqlUuid, _>(worker)
    .bind::<Double, _>(lease.as_secs_f64())
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.object_id, row.key)).collect())
}

#[derive(QueryableByName)]
struct Evicting {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
    #[diesel(sql_type = Text)]
    key: String,
}

/// Lets go of evictions that were marked and not begun, for whoever comes next.
pub async fn let_go_of_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    Ok(diesel::update(
        replicas::table
            .filter(replicas::object_id.eq_any(ids))
            .filter(replicas::store.eq(store))
            .filter(replicas::state.eq(ReplicaState::Evicting))
            .filter(replicas::lease_token.eq(token)),
    )
    .set(replicas::lease_until.eq(diesel::dsl::now))
    .execute(conn)
    .await?)
}

/// Forgets replicas whose bytes were deleted from the store.
pub async fn finish_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    Ok(diesel::delete(
        replicas::table
            .filter(replicas::object_id.eq_any(ids))
            .filter(replicas::store.eq(store))
            .filter(replicas::state.eq(ReplicaState::Evicting))
            .filter(replicas::lease_token.eq(token)),
    )
    .execute(conn)
    .await?)
}
