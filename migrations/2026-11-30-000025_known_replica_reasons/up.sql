-- The reasons of the replicas that were there before reasons were kept. In a migration of its own: the one that added the
-- columns keeps everybody from the table until it ends, this one from the rows that it changes.

-- The trigger of that migration infers them; rows that are written anew need no other change.
UPDATE replicas SET state = state
WHERE state IN ('queued', 'copying') AND copy_reason IS NULL OR state = 'evicting' AND evict_reason IS NULL;
-- What was given up can be tried again, and a copy that somebody fetched is kept for longer while it is read.
UPDATE replicas SET copy_reason =
    CASE WHEN rule IN ('prefetch', 'cache-on-read', 'rebalance', 'replication') THEN rule
         WHEN rule = 'drain' OR priority >= 1000 THEN 'drain'
         WHEN verified_at IS NOT NULL THEN 'repair'
         ELSE 'policy' END::copy_reason
WHERE copy_reason IS NULL
  AND (state = 'failed' OR rule IN ('prefetch', 'cache-on-read', 'drain', 'rebalance', 'replication'));

-- Copies into the cloud that are made at once because a store is being emptied. A few thousand at most.
-- A migration is one transaction, so commits of copies wait while this is built: about a second per million copies.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_drained_idx ON replicas (store, priority DESC, not_before, object_id)
    WHERE state = 'queued' AND run_id IS NULL AND copy_reason = 'drain';

-- Every row keeps to these by now; to look would block all reads meanwhile.
ALTER TABLE replicas
    ADD CONSTRAINT replicas_copy_has_a_reason
        CHECK (state NOT IN ('queued', 'copying') OR copy_reason IS NOT NULL) NOT VALID,
    ADD CONSTRAINT replicas_eviction_has_a_reason
        CHECK ((state = 'evicting') = (evict_reason IS NOT NULL)) NOT VALID;
