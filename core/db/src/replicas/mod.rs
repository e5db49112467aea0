//! The `replicas` table: the map of stored objects, and the queue of copies. Plans are set-based, the cost of claims
//! depends on the batch size, and every finishing UPDATE is guarded by the lease token.
//!
//! Leases and delays use the clock of the database, which all workers share.

mod adopt;
mod candidates;
mod claim;
mod counts;
mod envelopes;
mod evict;
mod evidence;
mod fetch;
mod finish;
mod local_replication;
mod lost;
mod movable;
mod moves;
mod multipart;
mod plan;
mod planning;
mod predicates;
mod rebalance;
mod reconcile;
mod review;
mod run_queue;
mod scrub;
mod transitions;
mod waiting;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::enums::{CopyReason, EvictReason, ReplicaState};
use super::schema::replicas;
use crate::encryption::EncryptionEnvelope;
use crate::error::Result;
use crate::ids::{ObjectId, RunId};

pub use adopt::{Adopted, FoundCopy, adopt};
pub(crate) use candidates::{Among, Candidates};
pub use claim::{
    Claim, ClaimTerms, OnDemand, claim, claim_by_size, claim_on_demand, confirm_lease, reclaim_expired,
    renew_leases,
};
pub(crate) use counts::totals;
pub use counts::{
    StateCount, are_counts_complete, complete_counts, count_by_state, fold_counts, used_bytes_in, waiting_in,
};
pub use envelopes::{KeyUse, envelope_of, keys_in_use};
pub use evict::{
    EvictableCopy, EvictionClaim, NextCopy, Order, cancel_evictions, claim_evictions, finish_evictions,
    lock_evictable, next_in_order, reclaim_evictions, release_evictions, renew_evictions,
};
pub use evidence::{CheckedEviction, EvictionCheck, OtherCopy, check_evictions};
pub use fetch::{FetchReason, queue_fetches};
pub use finish::{Failure, Finished, Switched, fail, finish, release};
pub use local_replication::{Lacking, local_places, mark_evictable, queue_local_copies};
pub use lost::{Repairs, can_repair, condemn, mark_lost, mark_suspect, objects_lost, queue_repairs};
pub use movable::{Held, Movable, held, movable};
pub use moves::{
    BEHIND, BrokenOff, DRAIN_RULE, Departing, Departure, Leaving, MOVES, cancel_queued_moves,
    claim_departures, claim_leftovers, delete_interrupted, delete_queued, interrupted, leave_runs, leaving,
    queue_by_policy, queue_moves, retry_moves, without_place,
};
pub use multipart::{begin_multipart, delete_multipart, failed_multipart, is_interrupted, open_multiparts};
pub use plan::{Amount, Until, next_due, plan_until, queued_in};
pub(crate) use plan::{Wanted, retryable};
pub use planning::{PlannedStep, Planning};
pub(crate) use predicates::{has_verified, is_kept, is_lost, waiting_repair};
pub use rebalance::{
    Moving, begin_moves, cancel_moves, claim_unverified, delete_queued_moves, move_only_among, moving,
    retry_all_failed, retry_failed,
};
pub use reconcile::{
    Facts, Known, any_known, correct_evictable, facts, known_after, knows_upload, mark_surplus, newest_age,
};
pub use review::{Reviewed, any_under_a_rule, decide, review};
pub use run_queue::{any_in_flight, record_sizes, release_queued};
pub use scrub::{
    ToRead, mark_found_again, mark_verified, oldest_verified, unrecovered_objects, unverified,
    verified_before,
};
pub(crate) use transitions::{
    FORGET_OBJECT, FORGET_UNLISTED, IfThere, LEAVE_RUN, LOSE, MARK_FOUND, Queue, UPDATE_PRESENT, UPLOAD,
};
pub use waiting::is_queued_for;

/// The run that a copy `r` returns to: its own, unless the run is stopping, the object is being removed or the store is
/// being drained: such copies must not prevent a run from ending.
const RUN_TO_GO_BACK_TO: &str = "(SELECT u.id FROM runs u, objects o WHERE u.id = r.run_id AND u.status = 'running' \
     AND u.cancel_requested_at IS NULL AND u.error IS NULL AND o.id = r.object_id AND o.state = 'stored' \
     AND NOT EXISTS (SELECT 1 FROM store_drains d WHERE d.store = r.store))";

/// A row with an object ID.
#[derive(QueryableByName)]
pub(crate) struct ObjectRow {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
}

impl ObjectRow {
    pub(crate) fn ids(rows: Vec<Self>) -> Vec<ObjectId> {
        rows.into_iter().map(|row| row.object_id).collect()
    }
}

/// A row with a count.
#[derive(QueryableByName)]
pub(crate) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(crate) count: i64,
}

/// A row with a boolean.
#[derive(QueryableByName)]
pub(crate) struct Flag {
    #[diesel(sql_type = Bool)]
    pub(crate) yes: bool,
}

/// The location of an object, with its state.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = replicas, check_for_backend(diesel::pg::Pg))]
pub struct Replica {
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// State.
    pub state: ReplicaState,
    /// As returned by the store.
    pub etag: Option<String>,
    /// The rule of the copy.
    pub rule: Option<String>,
    /// Run.
    pub run_id: Option<RunId>,
    /// Failed attempts since it was queued.
    pub attempts: i32,
    /// Not retried before this time; about the time of the failure, if it failed permanently.
    pub not_before: DateTime<Utc>,
    /// When it was first queued.
    pub queued_at: DateTime<Utc>,
    /// The error of the last attempt.
    pub last_error: Option<String>,
    /// When it was verified.
    pub verified_at: Option<DateTime<Utc>>,
    /// When the retention of a local copy started; `None` while no other copy is verified.
    pub spare_since: Option<DateTime<Utc>>,
    /// Id of the encryption key, if encrypted.
    pub key_id: Option<String>,
    /// See [`EncryptionEnvelope`].
    pub envelope: Option<Vec<u8>>,
    /// The rule that evicts a local copy.
    pub free_rule: String,
    /// Requested storage class; `None`: the default of the store.
    pub storage_class: Option<String>,
    /// The destination of a rebalancing move.
    pub moves_to: Option<String>,
    /// Why the replica is being copied, or was last copied; `NULL` if it was uploaded or found.
    pub copy_reason: Option<CopyReason>,
    /// Why the replica is being deleted.
    pub evict_reason: Option<EvictReason>,
    /// See [`Replica::is_suspect`].
    pub suspect_since: Option<DateTime<Utc>>,
}

impl Replica {
    /// Whether a pass that only reports found it missing or wrong. It counts as no copy, and is not repaired yet.
    pub fn is_suspect(&self) -> bool {
        self.state == ReplicaState::Lost && self.suspect_since.is_some()
    }

    /// Encryption envelope; `None` if unencrypted.
    pub fn encryption(&self) -> Option<EncryptionEnvelope> {
        EncryptionEnvelope::from_columns(self.key_id.clone(), self.envelope.clone())
    }
}

/// All replicas of some objects.
pub async fn of_objects(conn: &mut AsyncPgConnection, ids: &[ObjectId]) -> Result<Vec<Replica>> {
    Ok(replicas::table
        .filter(replicas::object_id.eq_any(ids))
        .order((replicas::object_id, replicas::store))
        .select(Replica::as_select())
        .load(conn)
        .await?)
}
