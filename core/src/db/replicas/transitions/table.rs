//! The table of states. What each entry does with a lease and with the reason of an eviction follows from its states.

use super::To::{Either, Gone, Same, State};
use super::Transition;
use crate::db::enums::ReplicaState::{self, Copying, Evicting, Failed, Lost, Present, Queued};

const ANY: [ReplicaState; 6] = [Queued, Copying, Present, Evicting, Failed, Lost];

/// The right to copy begins anew.
macro_rules! afresh {
    ($more:literal) => {
        concat!("not_before = now(), queued_at = now(), attempts = 0, abandoned = 0, ", $more)
    };
}

/// `NAME: states => what it leads to; who calls it, and when; what must hold besides the state; what is set besides the state;`
macro_rules! transitions {
    ($($name:ident: $from:expr => $to:expr; $callers:expr; $guard:expr; $set:expr;)+) => {
        $(pub(in crate::db) const $name: Transition =
            Transition { name: stringify!($name), from: &$from, to: $to, set: $set, callers: $callers, guard: $guard };)+

        /// Every transition.
        #[cfg(test)]
        pub(super) const TRANSITIONS: &[&Transition] = &[$(&$name,)+];
    };
}

transitions! {
    UPLOAD: [] => State(Present);
        "an upload that ends";
        "the object was `uploading` until this transaction";
        "";

    FIND: [Queued, Copying, Evicting, Failed, Lost] => State(Present);
        "a rebuild of the catalogue, of what lies in a store; makes the row where there is none";
        "size and SHA-256 are those of the object; nobody else writes to the catalogue";
        "etag = EXCLUDED.etag, verified_at = EXCLUDED.verified_at, key_id = EXCLUDED.key_id, envelope = EXCLUDED.envelope, \
         last_error = NULL, attempts = 0, abandoned = 0";

    QUEUE: [] => State(Queued);
        "plans and runs, drains, rebalancing, local replication, prefetch and cache on read";
        "the object is stored, and another store has a verified copy";
        "";

    QUEUE_AGAIN: [Failed, Lost] => State(Queued);
        "as `queue`, outside of runs";
        "as `queue`; a failed local copy is fetched again after an hour, or because somebody asks";
        afresh!("copy_reason = EXCLUDED.copy_reason, run_id = EXCLUDED.run_id, priority = EXCLUDED.priority");

    QUEUE_FIRST: [Queued, Failed, Lost] => State(Queued);
        "a prefetch that somebody waits for";
        "as `queue`; a queued copy is in no run";
        afresh!("copy_reason = EXCLUDED.copy_reason, run_id = EXCLUDED.run_id, priority = EXCLUDED.priority, \
                 rule = EXCLUDED.rule");

    TAKE_UP: [Queued, Failed, Lost] => State(Queued);
        "a run that is planned, or that executes a plan, of what earlier runs and drains left";
        "as `queue`; of failed copies those that were asked for";
        // An upload that has begun goes on as it was begun.
        "run_id = EXCLUDED.run_id, not_before = now(), \
         attempts = CASE WHEN r.state = 'queued' THEN r.attempts ELSE 0 END, \
         abandoned = CASE WHEN r.state = 'queued' THEN r.abandoned ELSE 0 END, \
         rule = CASE WHEN r.upload_id IS NULL THEN EXCLUDED.rule ELSE r.rule END, \
         storage_class = CASE WHEN r.upload_id IS NULL THEN EXCLUDED.storage_class ELSE r.storage_class END, \
         priority = CASE WHEN r.upload_id IS NULL THEN EXCLUDED.priority ELSE r.priority END, \
         copy_reason = CASE WHEN r.verified_at IS NOT NULL THEN 'repair' WHEN r.upload_id IS NULL THEN EXCLUDED.copy_reason \
         ELSE r.copy_reason END::copy_reason";

    RETRY: [Failed] => State(Queued);
        "drains and rebalancing, after a while or at the operator's word";
        "the replica that it is a copy of is still to move";
        afresh!("run_id = NULL");

    REPAIR: [Lost, Failed, Queued] => State(Queued);
        "runs of everything, reconcile and scrub";
        "it was verified once, another store has a readable verified copy, and its own is not being emptied";
        // A copy that somebody fetched stays one.
        afresh!("copy_reason = CASE WHEN r.copy_reason IN ('prefetch', 'cache-on-read') THEN r.copy_reason ELSE 'repair' END");

    LEAVE_RUN: [Queued] => Same;
        "a run that stops or is not the active one, a store that is drained, an object that is removed";
        "";
        "run_id = NULL";

    CLAIM: [Queued] => State(Copying);
        "a worker, of the next batch of a run or of what is made outside of runs";
        "it is due, its object is stored, its store is not being emptied, and nobody else locks the row";
        "";

    COMMIT: [Copying] => State(Present);
        "a worker that has proved the copy";
        "the lease is the worker's, and the object is stored";
        "verified_at = now(), attempts = 0, abandoned = 0, last_error = NULL, upload_id = NULL, part_size = NULL";

    FAIL: [Copying] => Either(Failed, Queued);
        "a worker whose try failed; the copy is given up where trying again is pointless or was tried often enough";
        "the lease is the worker's";
        "attempts = r.attempts + 1";

    GIVE_BACK: [Copying] => State(Queued);
        "a worker that stops, whose run was stopped, or whose store is in trouble; counts as no try";
        "the lease is the worker's";
        "";

    RECLAIM: [Copying] => Either(Failed, Queued);
        "the reaper; a copy that was abandoned too often is given up";
        "the lease has run out";
        "abandoned = r.abandoned + 1, not_before = now(), last_error = 'the worker that copied it stopped answering'";

    LOSE: [Present] => State(Lost);
        "readers, reconcile, scrub, an eviction that is cancelled too late, a rebuild of the catalogue";
        "the copy was seen missing or corrupt, and was not proved again since";
        "";

    FIND_AGAIN: [Lost, Failed, Queued] => State(Present);
        "scrub, of objects that have no verified copy left";
        "the copy was read and is right, and was not proved by anybody else since";
        "verified_at = now(), last_error = NULL, run_id = NULL, attempts = 0, abandoned = 0";

    BEGIN_EVICTION: [Present] => State(Evicting);
        "the worker that frees local copies, for the reason `policy` or `watermark`";
        "a cloud store has a copy that was verified before the grace period, under its lock; no cloud store waits for one; \
         no live file is pinned; it is not about to move";
        "";

    BEGIN_RELOCATION_EVICTION: [Present, Lost, Queued, Failed] => State(Evicting);
        "drains and rebalancing, for the reason `drain` or `rebalance`";
        "one of its new stores has a readable verified copy, under its lock; its store is being emptied, or that is the \
         store that it moves to";
        "run_id = NULL";

    BEGIN_CLEANUP: [Queued, Failed] => State(Evicting);
        "drains, rebalancing, and a run whose rules do not want the copy any more";
        "it was never proved, and is in the middle of no multipart upload";
        "evict_reason = 'leftover', run_id = NULL";

    BEGIN_SURPLUS_EVICTION: [] => State(Evicting);
        "reconcile, of an object that lies in a store without a row, for the reason `surplus`";
        "the object is stored, and another store has a verified copy, under its lock";
        "";

    CANCEL_EVICTION: [Evicting] => State(Present);
        "the worker that evicts, when the second look before the deletion forbids it";
        "the lease is the worker's; what may be deleted already is proved first, or is lost in the same transaction";
        "verified_at = coalesce(r.verified_at, now()), last_error = NULL";

    FINISH_EVICTION: [Evicting] => Gone;
        "the worker that evicts, when the bytes are gone";
        "the lease is the worker's";
        "";

    FORGET_QUEUED: [Queued] => Gone;
        "drains and rebalancing that are cancelled, a store that is being emptied, a run whose rules do not want the copy";
        "nobody has ever claimed it, so that nothing of it lies in its store";
        "";

    FORGET_UNLISTED: [Present] => Gone;
        "a rebuild of the catalogue";
        "its store does not list it, and another one that has a verified copy does";
        "";

    FORGET_OBJECT: ANY => Gone;
        "the reaper, when the bytes of a removed object are gone from every store";
        "the object is `removing`";
        "";

    RENEW: [Copying] => Same;
        "a worker's heartbeat";
        "the lease is the worker's; one that has run out is renewed as long as nobody took it";
        "";

    RENEW_EVICTION: [Evicting] => Same;
        "the worker that evicts, to go on or to let others have it; and whoever takes over what another one left";
        "the lease is the worker's, or has run out";
        "";

    SET_UPLOAD: [Copying] => Same;
        "a worker that begins a multipart upload, or gives one up";
        "the lease is the worker's";
        "";

    FORGET_UPLOAD: [Queued, Failed] => Same;
        "whoever has aborted the multipart upload of a copy that was given up or is not wanted any more";
        "";
        "upload_id = NULL, part_size = NULL";

    PROVE: [Present] => Same;
        "scrub, of a copy that was read and is right";
        "it was not proved by anybody else since";
        "verified_at = now()";

    NOTE_SIZE: [Queued] => Same;
        "a run that goes by size";
        "";
        "object_size = o.size";

    NOTE_PRESENT: [Present] => Same;
        "whoever learns when a copy was used, since when another one is verified, by which rule it is freed, or its class";
        "";
        "";

    MARK_MOVE: [Present] => Same;
        "rebalancing, in the statement that queues the copy in the store that it moves to";
        "it is verified and readable, and neither store is being emptied";
        "";

    UNMARK_MOVE: [Queued, Copying, Present, Failed, Lost] => Same;
        "rebalancing, of what stays where it is";
        "";
        "moves_to = NULL";
}
