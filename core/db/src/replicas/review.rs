//! The rule that evicts a local copy: re-evaluated in batches.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Flag;
use super::transitions::UPDATE_PRESENT;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::policy::{Policy, Reach};
use crate::statement::Values;

/// The result of reviewing some copies.
#[derive(Debug, QueryableByName)]
pub struct Reviewed {
    /// The last reviewed copy; `None` at the end.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub last: Option<ObjectId>,
    /// The number of copies with a changed rule.
    #[diesel(sql_type = BigInt)]
    pub changed: i64,
}

/// Re-evaluates the rule that evicts each of the next `limit` synced local copies. Copies of which all files are in the
/// trash keep their rule; locked rows wait for the next review.
pub async fn review(
    conn: &mut AsyncPgConnection,
    policy: &Policy<'_>,
    after: ObjectId,
    limit: i64,
) -> Result<Reviewed> {
    let mut values = Values::default();
    let (locals, after) = (values.texts(&policy.locals), values.id(after));
    let limit = values.number(limit);
    // The arrival of a prefetched copy counts as a use, regardless of who has downloaded the file.
    let number =
        policy.number(&mut values, "greatest(coalesce(f.last_accessed_at, o.stored_at), l.last_used_at)");
    let rules = policy.as_table_of_keeping(&mut values);
    let joins = policy.joins(Reach::Some);
    let changed = UPDATE_PRESENT.update(
        "free_rule = other.rule, keep_local = other.keep",
        "FROM other",
        "r.object_id = other.object_id AND r.store = other.store",
    );
    let sql = format!(
        "WITH picked AS ( \
             SELECT object_id, max(last_used_at) AS last_used_at FROM replicas \
             WHERE store = ANY({locals}) AND state = 'present' AND spare_since IS NOT NULL AND object_id > {after} \
             GROUP BY object_id ORDER BY object_id LIMIT {limit} \
         ), decided AS ( \
             SELECT l.object_id, min({number}) AS number FROM picked l JOIN objects o ON o.id = l.object_id \
             JOIN file_versions v ON v.object_id = o.id JOIN files f ON f.id = v.file_id {joins} \
             WHERE o.state = 'stored' AND f.deleted_at IS NULL GROUP BY l.object_id \
         ), other AS ( \
             SELECT l.object_id, l.store, t.rule, t.keep FROM decided d JOIN {rules} AS t (number, rule, keep) ON t.number = d.number \
             JOIN replicas l ON l.object_id = d.object_id AND l.store = ANY({locals}) AND l.state = 'present' \
             WHERE (l.free_rule, l.keep_local) IS DISTINCT FROM (t.rule, t.keep) FOR UPDATE OF l SKIP LOCKED \
         ), changed AS ({changed} RETURNING 1) \
         SELECT (SELECT object_id FROM picked ORDER BY object_id DESC LIMIT 1) AS last, \
                  (SELECT count(*) FROM changed) AS changed"
    );
    Ok(values.query(&sql).get_result(conn).await?)
}

/// Whether any local copy is evicted by a rule other than the default. Copies of rules that were removed are reviewed
/// once more.
pub async fn any_under_a_rule(conn: &mut AsyncPgConnection, locals: &[&str]) -> Result<bool> {
    let row: Flag = diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM replicas WHERE store = ANY($1) AND state = 'present' AND spare_since IS NOT NULL \
             AND (free_rule < 'default' OR free_rule > 'default')) AS yes",
    )
    .bind::<diesel::sql_types::Array<Text>, _>(locals)
    .get_result(conn)
    .await?;
    Ok(row.yes)
}

/// The number of the first rule that matches any version of an object, excluding files in the trash.
pub async fn decide(
    conn: &mut AsyncPgConnection,
    policy: &Policy<'_>,
    object: ObjectId,
) -> Result<Option<u32>> {
    #[derive(QueryableByName)]
    struct Number {
        #[diesel(sql_type = Nullable<diesel::sql_types::Integer>)]
        number: Option<i32>,
    }
    let mut values = Values::default();
    let object = values.id(object);
    let number = policy.number(&mut values, "coalesce(f.last_accessed_at, o.stored_at)");
    let sql = format!(
        "SELECT min({number}) AS number FROM objects o JOIN file_versions v ON v.object_id = o.id \
         JOIN files f ON f.id = v.file_id {} WHERE o.id = {object} AND f.deleted_at IS NULL",
        policy.joins(Reach::Some)
    );
    let row: Number = values.query(&sql).get_result(conn).await?;
    let number = row.number.and_then(|number| u32::try_from(number).ok());
    Ok(number.filter(|number| policy.rules.contains_key(number)))
}
