//! Local replication: where the local copies of an object are, where one is missing, and whether they are evictable.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::moves::BEHIND;
use super::predicates::{has_replica, is_kept};
use super::transitions::{IfThere, Queue, UPDATE_PRESENT};
use crate::enums::CopyReason;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::statement::Values;

/// The local copies of the next objects after `after`, and their deficits.
#[derive(Debug, Clone, QueryableByName)]
pub struct Lacking {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// The local stores that have or will have it; not those where it failed permanently.
    #[diesel(sql_type = Array<Text>)]
    pub stores: Vec<String>,
    /// Whether it has been synced and its local copies will be evicted after some time: then they are not replaced.
    #[diesel(sql_type = Bool)]
    pub goes: bool,
}

/// The next objects that are present in one of the stores `locals`, with their current and planned locations. Copies
/// evicted by a rule outside `staying` are temporary.
pub async fn local_places(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    staying: &[&str],
    after: ObjectId,
    limit: i64,
) -> Result<Vec<Lacking>> {
    let mut values = Values::default();
    let (after, locals, staying) = (values.id(after), values.texts(locals), values.texts(staying));
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT DISTINCT r.object_id FROM replicas r \
             WHERE r.object_id > {after} AND r.store = ANY({locals}) AND r.state = 'present' ORDER BY r.object_id LIMIT {limit} \
         ) \
         SELECT p.object_id, \
                ARRAY(SELECT s.store FROM replicas s WHERE s.object_id = p.object_id AND s.store = ANY({locals}) \
                      AND s.state <> 'failed') AS stores, \
                o.state <> 'stored' OR {} AS goes \
         FROM picked p JOIN objects o ON o.id = p.object_id ORDER BY p.object_id",
        has_replica(
            "p.object_id",
            "'present', 'evicting'",
            &format!(
                "s.store = ANY({locals}) AND s.spare_since IS NOT NULL AND s.free_rule <> ALL({staying})"
            )
        )
    );
    Ok(values.query(&sql).load(conn).await?)
}

/// Queues one more local copy of each of these objects in the second local store, at background priority. Existing and
/// queued copies are left unchanged; failed ones are retried. Returns the number of queued copies.
pub async fn queue_local_copies(conn: &mut AsyncPgConnection, copies: &[(ObjectId, &str)]) -> Result<usize> {
    let (ids, stores): (Vec<ObjectId>, Vec<&str>) = copies.iter().copied().unzip();
    let mut values = Values::default();
    let from = format!(
        "FROM unnest({}, {}) AS c (object_id, store) JOIN objects o ON o.id = c.object_id AND o.state = 'stored' \
         WHERE {} ORDER BY o.id",
        values.ids(&ids),
        values.texts(&stores),
        is_kept("c.store")
    );
    let priority = BEHIND.to_string();
    let queue = Queue::on_demand("o.id", "c.store", CopyReason::Replication, &priority);
    let sql = queue.insert(&from, IfThere::Again("r.state = 'failed'"));
    Ok(values.query(&sql).execute(conn).await?)
}

/// Marks the local copies of these objects in `locals` as evictable if a cloud copy in `clouds` is verified, and this
/// has not been recorded yet: two concurrent commits do not see each other.
pub async fn mark_evictable(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    clouds: &[&str],
    objects: &[ObjectId],
) -> Result<usize> {
    let mut values = Values::default();
    let from = format!(
        "FROM ( \
             SELECT DISTINCT ON (s.object_id) s.object_id, coalesce(s.rule, 'default') AS rule FROM replicas s \
             WHERE s.object_id = ANY({}) AND s.store = ANY({}) AND s.state = 'present' \
             ORDER BY s.object_id, s.verified_at DESC \
         ) c",
        values.ids(objects),
        values.texts(clouds)
    );
    let which = format!(
        "r.object_id = c.object_id AND r.store = ANY({}) AND r.spare_since IS NULL",
        values.texts(locals)
    );
    let sql = UPDATE_PRESENT.update("spare_since = now(), free_rule = c.rule", &from, &which);
    Ok(values.query(&sql).execute(conn).await?)
}
