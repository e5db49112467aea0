//! The table of transitions. Changes of the lease, of the eviction reason and of a suspicion follow from the states.

use super::To::{Either, Gone, Same, State};
use super::Transition;
use crate::enums::ReplicaState::{self, Copying, Evicting, Failed, Lost, Present, Queued};

const ANY: [ReplicaState; 6] = [Queued, Copying, Present, Evicting, Failed, Lost];

/// Resets the attempts.
macro_rules! reset_attempts {
    ($more:literal) => {
        concat!("not_before = now(), queued_at = now(), attempts = 0, abandoned = 0, ", $more)
    };
}

/// `NAME: source states => target; who uses it, and when; conditions besides the state; assignments besides the state;`
macro_rules! transitions {
    ($($name:ident: $from:expr => $to:expr; $callers:expr; $guard:expr; $set:expr;)+) => {
        $(pub(crate) const $name: Transition =
            Transition { name: stringify!($name), from: &$from, to: $to, set: $set, callers: $callers, guard: $guard };)+

        /// All transitions.
        #[cfg(test)]
        pub(super) const TRANSITIONS: &[&Transition] = &[$(&$name,)+];
    };
}

transitions! {
    UPLOAD: [] => State(Present);
        "the end of an upload";
        "the object was `uploading` until this transaction";
        "";

    MARK_FOUND: [Queued, Copying, Evicting, Failed, Lost] => State(Present);
        "a rebuild of the catalogue, and the adoption of unknown objects, for objects found in a store; inserts the row if \
            there is none";
        "size and SHA-256 match the object, and the catalogue has no other writer, or the object was recorded in the same \
            transaction; a copy that could not be proved is not verified";
        "etag = EXCLUDED.etag, verified_at = EXCLUDED.verified_at, key_id = EXCLUDED.key_id, envelope = EXCLUDED.envelope, \
         last_error = NULL, attempts = 0, abandoned = 0";

    ADOPT: [Queued, Failed, Lost] => State(Present);
        "reads and copies whose source is missing, and reconcile, for an object found in a store where no copy is expected, \
            or where it was suspect; inserts the row if there is none";
        "the object is stored; the checksum returned by the store is right, or the content was read; without a row, no \
            other copy is present";
        "etag = EXCLUDED.etag, storage_class = coalesce(EXCLUDED.storage_class, r.storage_class), verified_at = now(), \
         key_id = EXCLUDED.key_id, envelope = EXCLUDED.envelope, run_id = NULL, last_error = NULL, attempts = 0, \
         abandoned = 0, upload_id = NULL, part_size = NULL";

    QUEUE: [] => State(Queued);
        "plans and runs, drains, rebalancing, local replication, prefetch and cache on read";
        "the object is stored, and another store has a verified copy";
        "";

    QUEUE_AGAIN: [Failed, Lost] => State(Queued);
        "like `queue`, outside of runs";
        "like `queue`; a failed local copy is fetched again after an hour, or on request";
        reset_attempts!("copy_reason = EXCLUDED.copy_reason, run_id = EXCLUDED.run_id, priority = EXCLUDED.priority");

    QUEUE_FIRST: [Queued, Failed, Lost] => State(Queued);
        "a prefetch that a client waits for";
        "like `queue`; a queued copy belongs to no run";
        reset_attempts!("copy_reason = EXCLUDED.copy_reason, run_id = EXCLUDED.run_id, priority = EXCLUDED.priority, \
                 rule = EXCLUDED.rule");

    TAKE_OVER: [Queued, Failed, Lost] => State(Queued);
        "a run that is planned, or that executes a plan, for copies that earlier runs and drains left \
            behind";
        "like `queue`; failed copies only if they were requested, or some time after they failed";
        // A multipart upload that has started continues unchanged.
        "run_id = EXCLUDED.run_id, not_before = now(), \
         attempts = CASE WHEN r.state = 'queued' THEN r.attempts ELSE 0 END, \
         abandoned = CASE WHEN r.state = 'queued' THEN r.abandoned ELSE 0 END, \
         rule = CASE WHEN r.upload_id IS NULL THEN EXCLUDED.rule ELSE r.rule END, \
         storage_class = CASE WHEN r.upload_id IS NULL THEN EXCLUDED.storage_class ELSE r.storage_class END, \
         priority = CASE WHEN r.upload_id IS NULL THEN EXCLUDED.priority ELSE r.priority END, \
         copy_reason = CASE WHEN r.verified_at IS NOT NULL THEN 'repair' WHEN r.upload_id IS NULL THEN EXCLUDED.copy_reason \
         ELSE r.copy_reason END::copy_reason";

    RETRY: [Failed] => State(Queued);
        "drains and rebalancing, after a delay or on request of the operator";
        "the replica that is being copied is still to be moved";
        reset_attempts!("run_id = NULL");

    REPAIR: [Lost, Failed, Queued] => State(Queued);
        "runs of all rules, reconcile and scrub";
        "it was verified before, another store has a readable verified copy, and its own store is not \
            being drained";
        // A copy that was prefetched keeps that reason.
        reset_attempts!("copy_reason = CASE WHEN r.copy_reason IN ('prefetch', 'cache-on-read') THEN r.copy_reason ELSE 'repair' END");

    LEAVE_RUN: [Queued] => Same;
        "a run that stops or is not the active one, a store that is drained, an object that is deleted";
        "";
        "run_id = NULL";

    CLAIM: [Queued] => State(Copying);
        "a worker, for the next batch of a run or of copies made outside of runs";
        "it is due, its object is stored, its store is not being drained, and the row is not locked";
        "";

    COMMIT: [Copying] => State(Present);
        "a worker that has verified the copy";
        "the worker holds the lease, and the object is stored";
        "verified_at = now(), attempts = 0, abandoned = 0, last_error = NULL, upload_id = NULL, part_size = NULL";

    FAIL: [Copying] => Either(Failed, Queued);
        "a worker whose attempt failed; the copy becomes `failed` if a retry is pointless or no attempts \
            are left";
        "the worker holds the lease";
        "attempts = r.attempts + 1";

    REQUEUE: [Copying] => State(Queued);
        "a worker that stops, whose run was stopped, or whose store is unhealthy; does not count as an \
            attempt";
        "the worker holds the lease";
        "";

    RECLAIM: [Copying] => Either(Failed, Queued);
        "the reaper; a copy that was abandoned too often becomes `failed`";
        "the lease has expired";
        "abandoned = r.abandoned + 1, not_before = now(), last_error = 'the worker stopped responding \
            during the copy'";

    LOSE: [Present] => State(Lost);
        "reads, reconcile, scrub, an eviction that is cancelled too late, a rebuild of the catalogue";
        "the copy was found missing or corrupt, and was not verified again since";
        // Processes of the previous version leave it when a copy is made again.
        "suspect_since = NULL";

    SUSPECT: [Present] => State(Lost);
        "reconcile, when it only reports";
        "the copy was found missing or with a wrong size, and was not verified again since; the identity of its store \
            is proven";
        "suspect_since = now()";

    CONDEMN: [Lost] => Same;
        "reconcile with `--apply`, and scrub";
        "the copy is suspect and was found missing or wrong again";
        "suspect_since = NULL";

    RECOVER: [Lost, Failed, Queued] => State(Present);
        "scrub, for objects without a verified copy and for suspect copies";
        "the copy was read and is intact, and was not verified by another process since";
        "verified_at = now(), last_error = NULL, run_id = NULL, attempts = 0, abandoned = 0";

    BEGIN_EVICTION: [Present] => State(Evicting);
        "the worker that evicts local copies, for the reason `policy` or `watermark`";
        "a cloud store has a copy that was verified before the grace period, and its row is locked; no \
         copy for a cloud store is pending; no live file is pinned; it is not marked for a move";
        "";

    BEGIN_RELOCATION_EVICTION: [Present, Lost, Queued, Failed] => State(Evicting);
        "drains and rebalancing, for the reason `drain` or `rebalance`";
        "one of its new stores has a readable verified copy, and its row is locked; its store is being \
         drained, or that store is the target of the move; a copy that is not present is verified before the eviction is \
         cancelled";
        "run_id = NULL";

    BEGIN_CLEANUP: [Queued, Failed] => State(Evicting);
        "drains, rebalancing, and a run whose rules no longer require the copy";
        "it was never verified and has no open multipart upload";
        "evict_reason = 'leftover', run_id = NULL";

    BEGIN_SURPLUS_EVICTION: [] => State(Evicting);
        "reconcile, for an object found in a store without a row, for the reason `surplus`";
        "the object is stored, and another store has a verified copy whose row is locked";
        "";

    CANCEL_EVICTION: [Evicting] => State(Present);
        "the worker that evicts, if the second check before the deletion fails";
        "the worker holds the lease; a copy that may already be deleted is verified first, or becomes \
            `lost` in the same transaction";
        // A row of its own for the deletion was never verified before.
        "verified_at = CASE WHEN r.evict_reason IN ('leftover', 'surplus') THEN coalesce(r.verified_at, now()) \
         ELSE r.verified_at END, last_error = NULL";

    FINISH_EVICTION: [Evicting] => Gone;
        "the worker that evicts, after the bytes are deleted";
        "the worker holds the lease";
        "";

    FORGET_QUEUED: [Queued] => Gone;
        "drains and rebalancing that are cancelled, a store that is being drained, a run whose rules do \
            not require the copy";
        "it was never claimed, so that its store holds no part of it";
        "";

    FORGET_UNLISTED: [Present] => Gone;
        "a rebuild of the catalogue";
        "its store does not list it, and another store that has a verified copy does";
        "";

    FORGET_OBJECT: ANY => Gone;
        "the reaper, after the bytes of a deleted object are removed from every store";
        "the object is `removing`";
        "";

    RENEW: [Copying] => Same;
        "the heartbeat of a worker, and a worker before it changes something at the destination";
        "the worker holds the lease; an expired lease is renewed unless another worker has taken it";
        "";

    RENEW_EVICTION: [Evicting] => Same;
        "the worker that evicts, to continue or to hand over; and the worker that takes over an expired \
            lease";
        "the worker holds the lease, or it has expired";
        "";

    SET_UPLOAD: [Copying] => Same;
        "a worker that starts or aborts a multipart upload";
        "the worker holds the lease";
        "";

    FORGET_UPLOAD: [Queued, Failed] => Same;
        "the process that has aborted the multipart upload of a copy that failed or is no longer required";
        "";
        "upload_id = NULL, part_size = NULL";

    VERIFY: [Present] => Same;
        "scrub, and evictions of which the other copy was verified too long ago, for a copy that was read \
            and is intact";
        "it was not verified by another process since";
        "verified_at = now()";

    SET_SIZE: [Queued] => Same;
        "a run ordered by size";
        "";
        "object_size = o.size";

    UPDATE_PRESENT: [Present] => Same;
        "updates of the last use of a copy, the time since which it is evictable, its eviction rule, or \
            its storage class";
        "";
        "";

    MARK_MOVE: [Present] => Same;
        "rebalancing, in the statement that queues the copy in the target store";
        "it is verified and readable, and neither store is being drained";
        "";

    UNMARK_MOVE: [Queued, Copying, Present, Failed, Lost] => Same;
        "rebalancing, for copies that stay";
        "";
        "moves_to = NULL";
}
