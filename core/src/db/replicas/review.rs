//! The rule by which a local copy is freed: decided anew, a bounded number of copies at a time.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Yes;
use super::transitions::NOTE_PRESENT;
use crate::db::policy::{Policy, Reach};
use crate::db::statement::Values;
use crate::error::Result;
use crate::ids::ObjectId;

/// What a review of some copies did.
#[derive(Debug, QueryableByName)]
pub struct Reviewed {
    /// The last copy that was looked at; none at the end.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub last: Option<ObjectId>,
    /// How many have another rule now.
    #[diesel(sql_type = BigInt)]
    pub changed: i64,
}

/// Decides by which rule each of the next `limit` local copies that have crossed is freed. Those of which no file is
/// left outside of the trash keep theirs; what somebody else is changing waits for the next review.
pub async fn review(
    conn: &mut AsyncPgConnection,
    policy: &Policy<'_>,
    after: ObjectId,
    limit: i64,
) -> Result<Reviewed> {
    let mut values = Values::default();
    let (locals, after) = (values.texts(&policy.locals), values.id(after));
    let limit = values.number(limit);
    // A copy that was brought back is used, whoever has downloaded the file.
    let number =
        policy.number(&mut values, "greatest(coalesce(f.last_accessed_at, o.stored_at), l.last_used_at)");
    let rules = policy.as_table_of_keeping(&mut values);
    let joins = policy.joins(Reach::Some);
    let changed = NOTE_PRESENT.update(
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

/// Whether any local copy is freed by another rule than the default. What was freed by rules that are gone is reviewed
/// once more.
pub async fn any_under_a_rule(conn: &mut AsyncPgConnection, locals: &[&str]) -> Result<bool> {
    let row: Yes = diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM replicas WHERE store = ANY($1) AND state = 'present' AND spare_since IS NOT NULL \
             AND (free_rule < 'default' OR free_rule > 'default')) AS yes",
    )
    .bind::<diesel::sql_types::Array<Text>, _>(locals)
    .get_result(conn)
    .await?;
    Ok(row.yes)
}

/// The number of the first rule that matches any version with an object's bytes, files in the trash left out.
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
