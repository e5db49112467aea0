//! Number and bytes of the replicas, kept by the database: triggers record what each statement changes
//! (`replica_count_changes`), workers add the changes up (`replica_counts`), and the view `replica_totals` is the sum of
//! both. See docs/adr/0038.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Flag;
use crate::disable_statement_timeout;
use crate::enums::ReplicaState;
use crate::error::Result;

/// Changes added up in one statement.
const FOLDED: i64 = 10_000;

/// The same as `replica_totals`, counted: until [`complete_counts`] was called, the triggers have not seen every replica.
const COUNTED_NOW: &str = "(SELECT r.store, r.state, r.verified_at IS NOT NULL AS is_verified, \
        r.state = 'lost' AND r.suspect_since IS NOT NULL AS is_suspect, count(*) AS replicas, \
        coalesce(sum(o.size), 0)::bigint AS bytes \
    FROM replicas r JOIN objects o ON o.id = r.object_id GROUP BY 1, 2, 3, 4)";

/// Number and bytes of replicas by store and state.
#[derive(Debug, Clone, QueryableByName)]
pub struct StateCount {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// State.
    #[diesel(sql_type = crate::schema::sql_types::ReplicaState)]
    pub state: ReplicaState,
    /// Replicas.
    #[diesel(sql_type = BigInt)]
    pub replicas: i64,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// The number of those that are suspect, see [`super::Replica::is_suspect`].
    #[diesel(sql_type = BigInt)]
    pub suspects: i64,
}

/// Whether the triggers, and [`complete_counts`], have seen every replica.
pub async fn are_counts_complete(conn: &mut AsyncPgConnection) -> Result<bool> {
    let row: Flag =
        diesel::sql_query("SELECT EXISTS (SELECT 1 FROM replica_count_base) AS yes").get_result(conn).await?;
    Ok(row.yes)
}

/// The totals as the text of a `FROM` item.
pub(crate) async fn totals(conn: &mut AsyncPgConnection) -> Result<&'static str> {
    Ok(if are_counts_complete(conn).await? { "replica_totals" } else { COUNTED_NOW })
}

/// See [`StateCount`].
pub async fn count_by_state(conn: &mut AsyncPgConnection) -> Result<Vec<StateCount>> {
    let totals = totals(conn).await?;
    let sql = format!(
        "SELECT t.store, t.state, sum(t.replicas)::bigint AS replicas, sum(t.bytes)::bigint AS bytes, \
                coalesce(sum(t.replicas) FILTER (WHERE t.is_suspect), 0)::bigint AS suspects \
         FROM {totals} t GROUP BY t.store, t.state HAVING sum(t.replicas) > 0 ORDER BY t.store, t.state"
    );
    Ok(diesel::sql_query(sql).load(conn).await?)
}

/// Bytes of present replicas in a store.
pub async fn used_bytes_in(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    let counts = count_by_state(conn).await?;
    let present = |count: &&StateCount| count.store == store && count.state == ReplicaState::Present;
    Ok(counts.iter().filter(present).map(|count| count.bytes).sum())
}

/// Number of copies to a store that wait to be made, or failed.
pub async fn waiting_in(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    let counts = count_by_state(conn).await?;
    let waits = |count: &&StateCount| {
        count.store == store && matches!(count.state, ReplicaState::Queued | ReplicaState::Failed)
    };
    Ok(counts.iter().filter(waits).map(|count| count.replicas).sum())
}

/// Adds up some recorded changes. Returns whether there may be more.
pub async fn fold_counts(conn: &mut AsyncPgConnection) -> Result<bool> {
    let row: super::Count = diesel::sql_query(format!(
        "WITH next AS MATERIALIZED ( \
             SELECT id FROM replica_count_changes ORDER BY id LIMIT {FOLDED} FOR UPDATE SKIP LOCKED \
         ), gone AS ( \
             DELETE FROM replica_count_changes x USING next WHERE x.id = next.id \
             RETURNING x.store, x.state, x.is_verified, x.is_suspect, x.replicas, x.bytes \
         ), folded AS ( \
             INSERT INTO replica_counts AS c (store, state, is_verified, is_suspect, replicas, bytes) \
             SELECT store, state, is_verified, is_suspect, sum(replicas), sum(bytes) FROM gone \
             GROUP BY store, state, is_verified, is_suspect ORDER BY store, state, is_verified, is_suspect \
             ON CONFLICT (store, state, is_verified, is_suspect) \
                 DO UPDATE SET replicas = c.replicas + EXCLUDED.replicas, bytes = c.bytes + EXCLUDED.bytes \
         ) SELECT count(*) AS count FROM gone"
    ))
    .get_result(conn)
    .await?;
    Ok(row.count >= FOLDED)
}

/// Counts the replicas that are older than the triggers, if that was not done yet. Reads the whole table once. Returns
/// whether this call did it. Part of a transaction, in which it disables the statement timeout.
///
/// What the triggers have recorded and what one snapshot contains differ by the replicas that the triggers have not seen,
/// whatever is committed meanwhile: each change is committed together with its record.
pub async fn complete_counts(conn: &mut AsyncPgConnection) -> Result<bool> {
    disable_statement_timeout(conn).await?;
    // Another process that does the same waits here, and then finds it done.
    let ours = diesel::sql_query("INSERT INTO replica_count_base (id) VALUES (1) ON CONFLICT DO NOTHING")
        .execute(conn)
        .await?;
    if ours == 0 {
        return Ok(false);
    }
    diesel::sql_query(format!(
        "INSERT INTO replica_count_changes (store, state, is_verified, is_suspect, replicas, bytes) \
         SELECT d.store, d.state, d.is_verified, d.is_suspect, sum(d.replicas), sum(d.bytes) FROM ( \
             SELECT store, state, is_verified, is_suspect, replicas, bytes FROM {COUNTED_NOW} n \
             UNION ALL SELECT store, state, is_verified, is_suspect, -replicas, -bytes FROM replica_totals \
         ) d GROUP BY d.store, d.state, d.is_verified, d.is_suspect \
         HAVING sum(d.replicas) <> 0 OR sum(d.bytes) <> 0"
    ))
    .execute(conn)
    .await?;
    Ok(true)
}
