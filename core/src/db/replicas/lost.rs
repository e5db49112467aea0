//! What was present and is not any more: condemned, queued again from another verified copy, or found again.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::restores::READABLE;
use crate::error::Result;
use crate::ids::{ObjectId, RunId};

/// A replica that should be there is missing or corrupt. With `seen`, only if it has not been proved again since then.
/// A file whose home it was moves to another verified copy: to one in the stores `homes`, the cloud's, if there is one.
///
/// Answers how many verified copies are left, or none when the replica was not present any more and nothing changed.
pub async fn mark_lost(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    homes: &[&str],
    error: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    let row: Option<Count> = diesel::sql_query(
        "WITH lost AS ( \
             UPDATE replicas SET state = 'lost', last_error = $3 \
             WHERE object_id = $1 AND store = $2 AND state = 'present' AND ($4::timestamptz IS NULL OR verified_at = $4) \
             RETURNING object_id, store \
         ), others AS ( \
             SELECT store, verified_at FROM replicas WHERE object_id = $1 AND store <> $2 AND state = 'present' \
         ), home AS ( \
             SELECT store, CASE WHEN store = ANY($5) THEN verified_at END AS synced_at FROM others \
             ORDER BY store <> ALL($5), store LIMIT 1 \
         ), homes AS ( \
             UPDATE files f SET storage_location = h.store, synced_at = h.synced_at \
             FROM home h, lost l JOIN file_versions v ON v.object_id = l.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number AND f.storage_location = l.store \
         ) SELECT (SELECT count(*) FROM others) AS count FROM lost",
    )
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<Text, _>(error)
    .bind::<Nullable<Timestamptz>, _>(seen)
    .bind::<Array<Text>, _>(homes)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| row.count))
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// That its store is not being emptied.
const IS_KEPT: &str = "r.store <> ALL(ARRAY(SELECT d.store FROM store_drains d))";

/// That there is another verified copy that a repair can read from: an archived one is not, unless it was restored.
fn has_a_source() -> String {
    format!(
        "EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = r.object_id AND s.store <> r.store \
         AND s.state = 'present' AND {READABLE})"
    )
}

/// What was queued to be repaired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Repairs {
    /// Copies to make.
    #[diesel(sql_type = BigInt)]
    pub copies: i64,
    /// Bytes of those.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// How many of them the run carries.
    #[diesel(sql_type = BigInt)]
    pub joined: i64,
    /// Bytes of those.
    #[diesel(sql_type = BigInt)]
    pub joined_bytes: i64,
}

/// Queues every lost replica of which another verified copy exists, and what earlier repairs left queued; with
/// `again`, also repairs that were given up. For `run`, or for whichever run comes next. Those of the stores `locals` have no
/// run: they are fetched on demand, after what somebody waits for. Those of a store that is being emptied are not made again.
/// Idempotent.
pub async fn queue_repairs(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    run: Option<RunId>,
    again: bool,
) -> Result<Repairs> {
    // One statement per state, each over a partial index of its own.
    let states = [
        ("r.state = 'lost'", true),
        ("r.state = 'failed' AND r.verified_at IS NOT NULL", again),
        // What was verified before and is queued now is a repair. Into the local store it is on its way already.
        (
            "r.state = 'queued' AND r.run_id IS NULL AND r.verified_at IS NOT NULL AND r.store <> ALL($2)",
            run.is_some(),
        ),
    ];
    let has_a_source = has_a_source();
    let mut queued = Repairs::default();
    for (state, _) in states.into_iter().filter(|(_, wanted)| *wanted) {
        let sql = format!(
            "WITH queued AS ( \
                 UPDATE replicas r SET state = 'queued', not_before = now(), queued_at = now(), attempts = 0, \
                        abandoned = 0, run_id = CASE WHEN r.store = ANY($2) THEN NULL ELSE $1 END, \
                        priority = CASE WHEN r.store = ANY($2) THEN -1 ELSE r.priority END \
                 FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' AND {state} AND {has_a_source} AND {IS_KEPT} \
                 RETURNING o.size, r.run_id \
             ) SELECT count(*) AS copies, coalesce(sum(size), 0)::bigint AS bytes, count(run_id) AS joined, \
                      coalesce(sum(size) FILTER (WHERE run_id IS NOT NULL), 0)::bigint AS joined_bytes FROM queued"
        );
        let some: Repairs = diesel::sql_query(sql)
            .bind::<Nullable<SqlUuid>, _>(run)
            .bind::<Array<Text>, _>(locals)
            .get_result(conn)
            .await?;
        queued.copies += some.copies;
        queued.bytes += some.bytes;
        queued.joined += some.joined;
        queued.joined_bytes += some.joined_bytes;
    }
    Ok(queued)
}

/// Whether a replica is lost of which another verified copy exists. Cheap: reads what is in trouble only.
pub async fn can_repair(conn: &mut AsyncPgConnection) -> Result<bool> {
    let has_a_source = has_a_source();
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.state = 'lost' AND o.state = 'stored' AND {has_a_source} AND {IS_KEPT}) AS yes"
    );
    let row: Yes = diesel::sql_query(sql).get_result(conn).await?;
    Ok(row.yes)
}

#[derive(QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// How many objects have lost a copy and have no verified one left.
pub async fn objects_lost(conn: &mut AsyncPgConnection) -> Result<i64> {
    let row: Count = diesel::sql_query(
        "SELECT count(DISTINCT r.object_id) AS count FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.state = 'lost' AND o.state = 'stored' \
           AND NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = r.object_id AND s.state = 'present')",
    )
    .get_result(conn)
    .await?;
    Ok(row.count)
}
