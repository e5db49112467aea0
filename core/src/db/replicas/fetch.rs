//! Copies that are wanted at once, outside of any run: queued for the local store by somebody who reads, and claimed as
//! those of a run are.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::listen;
use crate::db::restores::READABLE;
use crate::error::Result;
use crate::ids::ObjectId;

/// Why a copy is brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Somebody asked for it.
    Prefetch,
    /// It was read from afar.
    CacheOnRead,
}

impl Wish {
    /// As it stands in the replica's `rule`.
    const fn rule(self) -> &'static str {
        match self {
            Self::Prefetch => "prefetch",
            Self::CacheOnRead => "cache-on-read",
        }
    }

    /// Who waits goes first.
    const fn priority(self) -> i16 {
        match self {
            Self::Prefetch => 1,
            Self::CacheOnRead => 0,
        }
    }
}

/// Queues copies of these objects, of at most `largest` bytes each, for the store `local`, unless one of the stores `locals`
/// has one or will have it, and wakes the workers. Where
/// a copy was given up before, a prefetch tries again at once, a read after an hour. What is there or on its way stays as it
/// is. Answers what is queued by this.
pub async fn queue_fetches(
    conn: &mut AsyncPgConnection,
    local: &str,
    locals: &[&str],
    wish: Wish,
    objects: &[ObjectId],
    largest: Option<i64>,
) -> Result<Vec<ObjectId>> {
    let rows: Vec<Queued> = diesel::sql_query(format!(
        "INSERT INTO replicas (object_id, store, state, rule, priority) \
         SELECT o.id, $1, 'queued', $2, $3 FROM objects o \
         WHERE o.id = ANY($4) AND o.state = 'stored' AND ($6::bigint IS NULL OR o.size <= $6) \
           AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = o.id AND s.store <> $1 AND s.state = 'present' \
                       AND {READABLE}) \
           AND NOT EXISTS (SELECT 1 FROM replicas n WHERE n.object_id = o.id AND n.store <> $1 AND n.store = ANY($7) \
                           AND n.state IN ('queued', 'copying', 'present') \
                           AND n.store <> ALL(ARRAY(SELECT d.store FROM store_drains d))) \
         ORDER BY o.id \
         ON CONFLICT (object_id, store) DO UPDATE SET state = 'queued', rule = EXCLUDED.rule, \
             priority = EXCLUDED.priority, run_id = NULL, not_before = now(), attempts = 0, abandoned = 0, \
             queued_at = now() \
         WHERE (replicas.state IN ('failed', 'lost') AND ($5 OR replicas.not_before < now() - interval '1 hour')) \
            OR ($5 AND replicas.state = 'queued' AND replicas.run_id IS NULL) \
         RETURNING object_id",
    ))
    .bind::<Text, _>(local)
    .bind::<Text, _>(wish.rule())
    .bind::<SmallInt, _>(wish.priority())
    .bind::<Array<SqlUuid>, _>(objects)
    .bind::<Bool, _>(wish == Wish::Prefetch)
    .bind::<Nullable<BigInt>, _>(largest)
    .bind::<Array<Text>, _>(locals)
    .load(conn)
    .await?;
    if !rows.is_empty() {
        listen::notify(conn, listen::RUNS, "fetch").await?;
    }
    Ok(rows.into_iter().map(|row| row.object_id).collect())
}

#[derive(QueryableByName)]
struct Queued {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
}
