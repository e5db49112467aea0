//! The outcomes of a copy: committed, failed, or released. Every UPDATE is guarded by the lease token.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::RUN_TO_GO_BACK_TO;
use super::predicates::has_verified;
use super::transitions::{COMMIT, FAIL, REQUEUE, UPDATE_PRESENT, under_lease};
use crate::encryption::EncryptionEnvelope;
use crate::enums::ReplicaState;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, RunId};
use crate::prepared::Prepared;
use crate::statement::{Value, Values};

/// A finished and verified copy, waiting to be committed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// The lease under which the copy was made.
    pub token: LeaseToken,
    /// As returned by the destination.
    pub etag: String,
    /// Encryption envelope; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
    /// Size in bytes.
    pub size: i64,
}

/// Marks copies as `present`. A copy in one of the cloud stores `primary_stores` becomes the primary copy of its files and makes
/// the local copies that remain in the stores `locals` evictable. A copy into a local store changes no primary store;
/// if the file is synced, the copy is evictable from the time of the other local copies, or from now. A local copy is
/// evicted by the rule of the cloud copy, unless that is one of the rules in `keeping`, which keep local copies.
/// Returns the copies whose lease was still held; for the others the lease was lost or the object was deleted, and
/// nothing was changed.
pub async fn finish(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    primary_stores: &[&str],
    keeping: &[&str],
    copies: &[Finished],
) -> Result<Vec<Switched>> {
    let mut values = Values::default();
    let ids: Vec<ObjectId> = copies.iter().map(|copy| copy.object_id).collect();
    let stores: Vec<&str> = copies.iter().map(|copy| copy.store.as_str()).collect();
    let tokens: Vec<LeaseToken> = copies.iter().map(|copy| copy.token).collect();
    let etags: Vec<&str> = copies.iter().map(|copy| copy.etag.as_str()).collect();
    let of_copies = || copies.iter().map(|copy| copy.envelope.as_ref());
    let key_ids = of_copies().map(|envelope| envelope.map(|envelope| envelope.key_id.clone())).collect();
    let envelopes =
        of_copies().map(|envelope| envelope.map(|envelope| envelope.wrapped_key.clone())).collect();
    let (ids, stores, tokens) = (values.ids(&ids), values.texts(&stores), values.ids(&tokens));
    let etags = values.texts(&etags);
    let key_ids = values.bind(Value::NullableTexts(key_ids));
    let envelopes = values.bind(Value::NullableBytes(envelopes));
    let (locals, primary_stores, keeping) =
        (values.texts(locals), values.texts(primary_stores), values.texts(keeping));
    let rule_of_cloud = format!(
        "coalesce((SELECT c.rule FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY({primary_stores}) \
         AND c.state = 'present' ORDER BY c.verified_at DESC LIMIT 1), 'default')"
    );
    let other_local = format!(
        "FROM replicas n WHERE n.object_id = r.object_id AND n.store = ANY({locals}) AND n.state = 'present'"
    );
    let has_crossed = has_verified("r.object_id", &format!("s.store = ANY({primary_stores})"));
    let switched = COMMIT.update(
        &format!(
            "etag = done.etag, key_id = done.key_id, envelope = done.envelope, \
             last_used_at = CASE WHEN r.store = ANY({locals}) \
                 THEN coalesce((SELECT max(n.last_used_at) {other_local}), now()) ELSE now() END, \
             spare_since = CASE WHEN r.store = ANY({locals}) AND {has_crossed} \
                 THEN coalesce((SELECT min(n.spare_since) {other_local}), now()) END, \
             free_rule = CASE WHEN r.store = ANY({locals}) THEN {rule_of_cloud} ELSE r.free_rule END, \
             keep_local = CASE WHEN r.store = ANY({locals}) THEN {rule_of_cloud} = ANY({keeping}) ELSE r.keep_local END"
        ),
        "FROM done JOIN objects o ON o.id = done.object_id",
        "r.object_id = done.object_id AND r.store = done.store AND r.lease_token = done.token AND o.state = 'stored'",
    );
    let spared = UPDATE_PRESENT.update(
        &format!("spare_since = now(), free_rule = s.rule, keep_local = s.rule = ANY({keeping})"),
        "FROM switched s",
        &format!("s.store = ANY({primary_stores}) AND r.object_id = s.object_id AND r.store = ANY({locals})"),
    );
    let sql = format!(
        "WITH done AS ( \
             SELECT * FROM unnest({ids}, {stores}, {tokens}, {etags}, {key_ids}, {envelopes}) \
                 AS d (object_id, store, token, etag, key_id, envelope) \
         ), switched AS ( \
             {switched} RETURNING r.object_id, r.store, r.run_id, o.size, coalesce(r.rule, 'default') AS rule \
         ), homes AS ( \
             UPDATE files f SET storage_location = s.store, synced_at = now() \
             FROM switched s JOIN file_versions v ON v.object_id = s.object_id \
             WHERE s.store = ANY({primary_stores}) AND f.id = v.file_id AND f.current_version = v.number \
         ), spared AS ({spared}), forgotten AS ( \
             DELETE FROM transfer_parts p USING switched s WHERE p.object_id = s.object_id AND p.store = s.store \
         ), counted AS ( \
             UPDATE runs SET files_done = files_done + c.files, bytes_done = bytes_done + c.bytes \
             FROM (SELECT run_id, count(*) AS files, sum(size)::bigint AS bytes FROM switched GROUP BY run_id) c \
             WHERE runs.id = c.run_id \
         ) SELECT object_id, store, run_id FROM switched"
    );
    Ok(Prepared(values.query(&sql)).load(conn).await?)
}

/// A copy committed by [`finish`].
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::replicas)]
pub struct Switched {
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// The run that counted it.
    pub run_id: Option<RunId>,
}

/// Records a failed attempt: the copy is requeued after `delay`, or becomes `failed` if `give_up` is set or no attempts
/// are left. Returns the new state and the number of attempts, or `None` if the lease was lost.
pub async fn fail(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    failure: &Failure<'_>,
) -> Result<Option<(ReplicaState, i32)>> {
    let mut values = Values::default();
    let error = values.text(failure.error);
    let give_up = values.bind(Value::Switch(failure.give_up));
    let max_attempts = values.number(failure.max_attempts);
    let is_final = format!("{give_up} OR r.attempts + 1 >= {max_attempts}");
    let sets = format!(
        "last_error = {error}, not_before = now() + make_interval(secs => {}), \
         run_id = CASE WHEN {is_final} THEN r.run_id ELSE {RUN_TO_GO_BACK_TO} END",
        values.seconds(failure.delay)
    );
    let which = under_lease(&mut values, &[object], store, token);
    let sql = format!("{} RETURNING r.state, r.attempts", FAIL.update_if(&is_final, &sets, "", &which));
    let row: Option<Failed> = values.query(&sql).get_result(conn).await.optional()?;
    Ok(row.map(|row| (row.state, row.attempts)))
}

/// The error of an attempt.
#[derive(Debug)]
pub struct Failure<'a> {
    /// As text.
    pub error: &'a str,
    /// Whether a retry is pointless.
    pub give_up: bool,
    /// Maximum number of attempts.
    pub max_attempts: i32,
    /// Delay before the next attempt.
    pub delay: Duration,
}

#[derive(QueryableByName)]
#[diesel(table_name = crate::schema::replicas)]
struct Failed {
    state: ReplicaState,
    attempts: i32,
}

/// Releases a claimed copy without counting an attempt: the worker is shutting down, the run was cancelled, or the
/// whole store is down. `delay` prevents an immediate new claim.
pub async fn release(
    conn: &mut AsyncPgConnection,
    token: LeaseToken,
    object: ObjectId,
    store: &str,
    error: Option<&str>,
    delay: Duration,
) -> Result<usize> {
    let mut values = Values::default();
    let (error, delay) = (values.text_or_null(error), values.seconds(delay));
    let sets = format!(
        "last_error = coalesce({error}, r.last_error), not_before = now() + make_interval(secs => {delay}), \
         run_id = {RUN_TO_GO_BACK_TO}"
    );
    let which = under_lease(&mut values, &[object], store, token);
    Ok(values.query(&REQUEUE.update(&sets, "", &which)).execute(conn).await?)
}
