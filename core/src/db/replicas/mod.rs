//! The `replicas` table: the map of what is where, and the queue of what is to be moved. Plans are set-based,
//! claims cost the size of the batch, and every finishing UPDATE is guarded by the lease token.
//!
//! Leases and delays are counted by the database's clock, the one that all workers share.

mod beside;
mod candidates;
mod claim;
mod evict;
mod fetch;
mod finish;
mod lost;
mod movable;
mod moves;
mod multipart;
mod plan;
mod predicates;
mod rebalance;
mod reconcile;
mod review;
mod scrub;
mod seals;
mod transitions;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::enums::{CopyReason, EvictReason, ReplicaState};
use super::schema::replicas;
use crate::encryption::Seal;
use crate::error::Result;
use crate::ids::{ObjectId, RunId};

pub use beside::{Lacking, local_places, mark_spare, queue_beside};
pub(in crate::db) use candidates::{Among, Candidates};
pub use claim::{
    Claim, OnDemand, Terms, claim, claim_by_size, claim_on_demand, holds_lease, note_sizes, reclaim_expired,
    renew_leases,
};
pub use evict::{
    Eviction, EvictionClaim, Order, Spare, call_eviction_off, check_eviction, claim_evictions,
    finish_evictions, let_go_of_evictions, lock_spare, present_bytes, reclaim_evictions, renew_eviction,
};
pub use fetch::{Wish, queue_fetches};
pub use finish::{Failure, Finished, Switched, fail, finish, release};
pub use lost::{Repairs, can_repair, mark_lost, objects_lost, queue_repairs};
pub use movable::{Held, Movable, held, movable};
pub use moves::{
    BEHIND, BrokenOff, DRAIN_RULE, Departure, Leaving, MOVES, broken_off, claim_departures, claim_leftovers,
    forget_broken_off, forget_moves, forget_waiting, leave_runs, leaving, queue_by_policy, queue_moves,
    retry_moves, without_place,
};
pub use multipart::{begin_multipart, forget_multipart, given_up_multipart, open_multiparts};
pub use plan::{Planned, Until, next_due, plan_until, queued_in, unassign};
pub(in crate::db) use plan::{Wanted, taken_up_again};
pub(in crate::db) use predicates::{has_verified, is_kept, waiting_repair};
pub use rebalance::{
    Begun, Moving, begin_moves, claim_unproved, forget_begun, let_stay, move_only_among, moving, retry_begun,
    retry_given_up,
};
pub use reconcile::{Facts, Known, any_known, facts, known_after, knows_upload, mark_surplus, mend_spare};
pub use review::{Reviewed, any_under_a_rule, decide, review};
pub use scrub::{ToRead, last_hopes, mark_found_again, mark_verified, oldest_verified, verified_before};
pub use seals::{KeyUse, keys_in_use, seal_of};
pub(in crate::db) use transitions::{
    FIND, FORGET_OBJECT, FORGET_UNLISTED, IfThere, LEAVE_RUN, LOSE, NOTE_PRESENT, Queue, UPLOAD,
};

/// The run that a copy `r` goes back to: its own, unless that one stops, or the object is on its way out or the store is
/// being emptied: those must not keep a run from ending.
const RUN_TO_GO_BACK_TO: &str = "(SELECT u.id FROM runs u, objects o WHERE u.id = r.run_id AND u.status = 'running' \
     AND u.cancel_requested_at IS NULL AND u.error IS NULL AND o.id = r.object_id AND o.state = 'stored' \
     AND NOT EXISTS (SELECT 1 FROM store_drains d WHERE d.store = r.store))";

/// A row that names an object.
#[derive(QueryableByName)]
pub(in crate::db) struct ObjectRow {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
}

impl ObjectRow {
    fn ids(rows: Vec<Self>) -> Vec<ObjectId> {
        rows.into_iter().map(|row| row.object_id).collect()
    }
}

/// A row that counts.
#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A row that says yes or no.
#[derive(QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

/// Where an object should be, and how far that is true.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = replicas, check_for_backend(diesel::pg::Pg))]
pub struct Replica {
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// State.
    pub state: ReplicaState,
    /// As the store answered.
    pub etag: Option<String>,
    /// Why it should be there.
    pub rule: Option<String>,
    /// Run it belongs to.
    pub run_id: Option<RunId>,
    /// Failed tries since it was queued.
    pub attempts: i32,
    /// Not tried again before this.
    pub not_before: DateTime<Utc>,
    /// What the last try met.
    pub last_error: Option<String>,
    /// When it was proved.
    pub verified_at: Option<DateTime<Utc>>,
    /// From when the time until a local copy is freed counts; none while no other copy was verified.
    pub spare_since: Option<DateTime<Utc>>,
    /// Name of the key that it is encrypted with, if it is.
    pub key_id: Option<String>,
    /// See [`Seal`].
    pub envelope: Option<Vec<u8>>,
    /// The rule by which a local copy is freed.
    pub free_rule: String,
    /// Storage class that was asked for; none: the store's own.
    pub storage_class: Option<String>,
    /// The store to which it is about to move, so that the local stores are as full.
    pub moves_to: Option<String>,
    /// Why it is copied there, or was last; none where it was uploaded or found.
    pub copy_reason: Option<CopyReason>,
    /// Why it is being deleted.
    pub evict_reason: Option<EvictReason>,
}

impl Replica {
    /// How it is encrypted; none for one that lies in its store as it is.
    pub fn seal(&self) -> Option<Seal> {
        Seal::from_columns(self.key_id.clone(), self.envelope.clone())
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

/// Number and bytes of replicas by store and state. Reads the whole table: cache it.
#[derive(Debug, Clone, QueryableByName)]
pub struct StateCount {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// State.
    #[diesel(sql_type = super::schema::sql_types::ReplicaState)]
    pub state: ReplicaState,
    /// Replicas.
    #[diesel(sql_type = BigInt)]
    pub replicas: i64,
    /// Bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// See [`StateCount`].
pub async fn count_by_state(conn: &mut AsyncPgConnection) -> Result<Vec<StateCount>> {
    Ok(diesel::sql_query(
        "SELECT r.store, r.state, count(*) AS replicas, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM replicas r JOIN objects o ON o.id = r.object_id GROUP BY r.store, r.state ORDER BY r.store, r.state",
    )
    .load(conn)
    .await?)
}
