//! Several local copies of the same object: where they are, where one is missing, and whether all of them may go.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::moves::BEHIND;
use crate::error::Result;
use crate::ids::ObjectId;

/// What the local copies of the next objects after `after` lack.
#[derive(Debug, Clone, QueryableByName)]
pub struct Lacking {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// The local stores that hold it, or will; not those where that was given up.
    #[diesel(sql_type = Array<Text>)]
    pub stores: Vec<String>,
    /// Whether it has crossed and its local copies go after a while: then they are not made again.
    #[diesel(sql_type = Bool)]
    pub goes: bool,
}

/// The next objects that are present in one of the stores `locals`, with where they are or will be. What is freed by a rule
/// other than those `staying` goes after a while.
pub async fn local_places(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    staying: &[&str],
    after: ObjectId,
    limit: i64,
) -> Result<Vec<Lacking>> {
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT DISTINCT r.object_id FROM replicas r \
             WHERE r.object_id > $1 AND r.store = ANY($2) AND r.state = 'present' ORDER BY r.object_id LIMIT {limit} \
         ) \
         SELECT p.object_id, \
                ARRAY(SELECT s.store FROM replicas s WHERE s.object_id = p.object_id AND s.store = ANY($2) \
                      AND s.state <> 'failed') AS stores, \
                o.state <> 'stored' OR EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = p.object_id \
                        AND s.store = ANY($2) AND s.state IN ('present', 'evicting') AND s.spare_since IS NOT NULL \
                        AND s.free_rule <> ALL($3)) AS goes \
         FROM picked p JOIN objects o ON o.id = p.object_id ORDER BY p.object_id"
    );
    Ok(diesel::sql_query(sql)
        .bind::<SqlUuid, _>(after)
        .bind::<Array<Text>, _>(locals)
        .bind::<Array<Text>, _>(staying)
        .load(conn)
        .await?)
}

/// Queues one more local copy of each of these objects, in the store beside it, for nobody who waits. What is there, or on its
/// way stays as it is; what was given up is tried again. Answers how many.
pub async fn queue_beside(
    conn: &mut AsyncPgConnection,
    rule: &str,
    copies: &[(ObjectId, &str)],
) -> Result<usize> {
    let (ids, stores): (Vec<ObjectId>, Vec<&str>) = copies.iter().copied().unzip();
    Ok(diesel::sql_query(
        "INSERT INTO replicas (object_id, store, state, rule, priority) \
         SELECT o.id, c.store, 'queued', $3, $4 FROM unnest($1::uuid[], $2::text[]) AS c (object_id, store) \
         JOIN objects o ON o.id = c.object_id AND o.state = 'stored' \
         WHERE c.store <> ALL(ARRAY(SELECT d.store FROM store_drains d)) ORDER BY o.id \
         ON CONFLICT (object_id, store) DO UPDATE SET state = 'queued', run_id = NULL, not_before = now(), attempts = 0, \
             abandoned = 0, queued_at = now(), priority = EXCLUDED.priority \
         WHERE replicas.state = 'failed'",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<Text>, _>(stores)
    .bind::<Text, _>(rule)
    .bind::<SmallInt, _>(BEHIND)
    .execute(conn)
    .await?)
}

/// Local copies of these objects, in `locals`, of which a copy in the cloud's stores `clouds` is verified are spare from now
/// on, if nobody has seen that yet: two copies that were committed at the same moment do not see each other.
pub async fn mark_spare(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    clouds: &[&str],
    objects: &[ObjectId],
) -> Result<usize> {
    Ok(diesel::sql_query(
        "UPDATE replicas l SET spare_since = now(), free_rule = c.rule FROM ( \
             SELECT DISTINCT ON (s.object_id) s.object_id, coalesce(s.rule, 'default') AS rule FROM replicas s \
             WHERE s.object_id = ANY($3) AND s.store = ANY($2) AND s.state = 'present' \
             ORDER BY s.object_id, s.verified_at DESC \
         ) c WHERE l.object_id = c.object_id AND l.store = ANY($1) AND l.state = 'present' AND l.spare_since IS NULL",
    )
    .bind::<Array<Text>, _>(locals)
    .bind::<Array<Text>, _>(clouds)
    .bind::<Array<SqlUuid>, _>(objects)
    .execute(conn)
    .await?)
}
