//! The ends of a copy: switched, failed, or given back. Every UPDATE is guarded by the lease token.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, Bytea, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::RUN_TO_GO_BACK_TO;
use crate::db::enums::ReplicaState;
use crate::db::prepared::Prepared;
use crate::encryption::Seal;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, RunId};

/// A copy that was made and proved, waiting to be committed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// The lease it was made under.
    pub token: LeaseToken,
    /// As the destination answered.
    pub etag: String,
    /// How it is encrypted; none when it lies there as it is.
    pub seal: Option<Seal>,
    /// Size in bytes.
    pub size: i64,
}

/// Switches copies to `present`. A copy in one of the stores `homes`, the cloud's, is its files' home from now on and
/// makes those that stay in the stores `locals` spare; one into these moves no home, and is spare itself if the file has
/// crossed: as long as the other local copies are, or from now on. A local copy is freed by the rule of the cloud's, never
/// where that is one of those `keeping` local copies. Answers the copies that were still ours: for the others the lease was
/// lost or the object was removed meanwhile, and nothing was changed.
pub async fn finish(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    homes: &[&str],
    keeping: &[&str],
    copies: &[Finished],
) -> Result<Vec<Switched>> {
    let ids: Vec<ObjectId> = copies.iter().map(|copy| copy.object_id).collect();
    let stores: Vec<&str> = copies.iter().map(|copy| copy.store.as_str()).collect();
    let tokens: Vec<LeaseToken> = copies.iter().map(|copy| copy.token).collect();
    let etags: Vec<&str> = copies.iter().map(|copy| copy.etag.as_str()).collect();
    let key_ids: Vec<Option<&str>> =
        copies.iter().map(|copy| copy.seal.as_ref().map(|seal| seal.key_id.as_str())).collect();
    let envelopes: Vec<Option<&[u8]>> =
        copies.iter().map(|copy| copy.seal.as_ref().map(|seal| seal.envelope.as_slice())).collect();
    let rule_of_cloud = "coalesce((SELECT c.rule FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY($6) \
         AND c.state = 'present' ORDER BY c.verified_at DESC LIMIT 1), 'default')";
    let other_local =
        "FROM replicas n WHERE n.object_id = r.object_id AND n.store = ANY($5) AND n.state = 'present'";
    let has_crossed = "EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY($6) \
         AND c.state = 'present')";
    let query = diesel::sql_query(format!(
        "WITH done AS ( \
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $8::text[], $9::bytea[]) \
                 AS d (object_id, store, token, etag, key_id, envelope) \
         ), switched AS ( \
             UPDATE replicas r SET state = 'present', verified_at = now(), etag = done.etag, attempts = 0, \
                    key_id = done.key_id, envelope = done.envelope, \
                    abandoned = 0, last_error = NULL, upload_id = NULL, part_size = NULL, \
                    lease_token = NULL, lease_until = NULL, lease_worker = NULL, \
                    last_used_at = CASE WHEN r.store = ANY($5) \
                        THEN coalesce((SELECT max(n.last_used_at) {other_local}), now()) ELSE now() END, \
                    spare_since = CASE WHEN r.store = ANY($5) AND {has_crossed} \
                        THEN coalesce((SELECT min(n.spare_since) {other_local}), now()) END, \
                    free_rule = CASE WHEN r.store = ANY($5) THEN {rule_of_cloud} ELSE r.free_rule END, \
                    keep_local = CASE WHEN r.store = ANY($5) THEN {rule_of_cloud} = ANY($7) ELSE r.keep_local END \
             FROM done JOIN objects o ON o.id = done.object_id \
             WHERE r.object_id = done.object_id AND r.store = done.store AND r.state = 'copying' \
               AND r.lease_token = done.token AND o.state = 'stored' \
             RETURNING r.object_id, r.store, r.run_id, o.size, coalesce(r.rule, 'default') AS rule \
         ), homes AS ( \
             UPDATE files f SET storage_location = s.store, synced_at = now() \
             FROM switched s JOIN file_versions v ON v.object_id = s.object_id \
             WHERE s.store = ANY($6) AND f.id = v.file_id AND f.current_version = v.number \
         ), spared AS ( \
             UPDATE replicas l SET spare_since = now(), free_rule = s.rule, keep_local = s.rule = ANY($7) FROM switched s \
             WHERE s.store = ANY($6) AND l.object_id = s.object_id AND l.store = ANY($5) AND l.state = 'present' \
         ), forgotten AS ( \
             DELETE FROM transfer_parts p USING switched s WHERE p.object_id = s.object_id AND p.store = s.store \
         ), counted AS ( \
             UPDATE runs SET files_done = files_done + c.files, bytes_done = bytes_done + c.bytes \
             FROM (SELECT run_id, count(*) AS files, sum(size)::bigint AS bytes FROM switched GROUP BY run_id) c \
             WHERE runs.id = c.run_id \
         ) SELECT object_id, store, run_id FROM switched",
    ))
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Text>, _>(&stores)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Array<Text>, _>(&etags)
    .bind::<Array<Text>, _>(locals)
    .bind::<Array<Text>, _>(homes)
    .bind::<Array<Text>, _>(keeping)
    .bind::<Array<Nullable<Text>>, _>(&key_ids)
    .bind::<Array<Nullable<Bytea>>, _>(&envelopes);
    Ok(Prepared(query).load(conn).await?)
}

/// A copy that [`finish`] switched.
#[derive(Debug, Clone, QueryableByName)]
pub struct Switched {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Run that it was counted for.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub run_id: Option<RunId>,
}

/// Records a failed try: back to the queue after `delay`, or `failed` for good when `give_up` or when the
/// attempts are used up. Answers the new state and the number of attempts, or none when the lease was lost.
pub async fn fail(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    failure: &Failure<'_>,
) -> Result<Option<(ReplicaState, i32)>> {
    let row: Option<Failed> = diesel::sql_query(format!(
        "UPDATE replicas r SET attempts = attempts + 1, last_error = $4, \
                state = CASE WHEN $5 OR attempts + 1 >= $6 THEN 'failed' ELSE 'queued' END::replica_state, \
                not_before = now() + make_interval(secs => $7), \
                run_id = CASE WHEN $5 OR attempts + 1 >= $6 THEN run_id ELSE {RUN_TO_GO_BACK_TO} END, \
                lease_token = NULL, lease_until = NULL, lease_worker = NULL \
         WHERE object_id = $1 AND store = $2 AND state = 'copying' AND lease_token = $3 \
         RETURNING state, attempts",
    ))
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Text, _>(failure.error)
    .bind::<diesel::sql_types::Bool, _>(failure.give_up)
    .bind::<Integer, _>(failure.max_attempts)
    .bind::<Double, _>(failure.delay.as_secs_f64())
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| (row.state, row.attempts)))
}

/// What a try met.
#[derive(Debug)]
pub struct Failure<'a> {
    /// In words.
    pub error: &'a str,
    /// Whether trying again is pointless.
    pub give_up: bool,
    /// Tries in all.
    pub max_attempts: i32,
    /// Before the next try.
    pub delay: Duration,
}

#[derive(QueryableByName)]
struct Failed {
    #[diesel(sql_type = crate::db::schema::sql_types::ReplicaState)]
    state: ReplicaState,
    #[diesel(sql_type = Integer)]
    attempts: i32,
}

/// Gives a claimed copy back without counting a try: the worker drains, the run was stopped, or the whole store
/// is in trouble. `delay` keeps it from being claimed again at once.
pub async fn release(
    conn: &mut AsyncPgConnection,
    token: LeaseToken,
    object: ObjectId,
    store: &str,
    error: Option<&str>,
    delay: Duration,
) -> Result<usize> {
    Ok(diesel::sql_query(format!(
        "UPDATE replicas r SET state = 'queued', lease_token = NULL, lease_until = NULL, lease_worker = NULL, \
                last_error = coalesce($3, last_error), not_before = now() + make_interval(secs => $4), \
                run_id = {RUN_TO_GO_BACK_TO} \
         WHERE lease_token = $1 AND state = 'copying' AND object_id = $2 AND store = $5",
    ))
    .bind::<SqlUuid, _>(token)
    .bind::<SqlUuid, _>(object)
    .bind::<Nullable<Text>, _>(error)
    .bind::<Double, _>(delay.as_secs_f64())
    .bind::<Text, _>(store)
    .execute(conn)
    .await?)
}
