-- The reasons of the replicas that were there before reasons were kept.
-- squawk-disable-assume-in-transaction

-- In batches, each a transaction of its own. Rows that somebody else has locked are taken in the next round, so that nobody
-- waits for the other: the trigger of the migration before gives new rows their reasons.
DO $$
DECLARE
    from_object uuid;
    to_object   uuid;
BEGIN
    LOOP
        from_object := '00000000-0000-0000-0000-000000000000';
        LOOP
            SELECT object_id INTO to_object
            FROM (SELECT object_id FROM replicas WHERE object_id > from_object ORDER BY object_id LIMIT 5000) batch
            ORDER BY object_id DESC LIMIT 1;
            EXIT WHEN to_object IS NULL;

            -- The trigger infers them; rows that are written anew need no other change.
            WITH due AS (
                SELECT object_id, store FROM replicas
                WHERE object_id > from_object AND object_id <= to_object
                  AND (state IN ('queued', 'copying') AND copy_reason IS NULL
                       OR state = 'evicting' AND evict_reason IS NULL)
                FOR UPDATE SKIP LOCKED)
            UPDATE replicas r SET state = r.state FROM due d WHERE r.object_id = d.object_id AND r.store = d.store;

            -- What was given up can be tried again, and a copy that somebody fetched is kept for longer while it is read.
            WITH due AS (
                SELECT object_id, store FROM replicas
                WHERE object_id > from_object AND object_id <= to_object AND copy_reason IS NULL
                  AND (state = 'failed' OR rule IN ('prefetch', 'cache-on-read', 'drain', 'rebalance', 'replication'))
                FOR UPDATE SKIP LOCKED)
            UPDATE replicas r SET copy_reason =
                CASE WHEN r.rule IN ('prefetch', 'cache-on-read', 'rebalance', 'replication') THEN r.rule
                     WHEN r.rule = 'drain' OR r.priority >= 1000 THEN 'drain'
                     WHEN r.verified_at IS NOT NULL THEN 'repair'
                     ELSE 'policy' END::copy_reason
            FROM due d WHERE r.object_id = d.object_id AND r.store = d.store;
            COMMIT;
            from_object := to_object;
        END LOOP;

        EXIT WHEN NOT EXISTS (
            SELECT FROM replicas
            WHERE state IN ('queued', 'copying') AND copy_reason IS NULL
               OR state = 'evicting' AND evict_reason IS NULL
               OR copy_reason IS NULL
                  AND (state = 'failed' OR rule IN ('prefetch', 'cache-on-read', 'drain', 'rebalance', 'replication')));
        COMMIT;
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;

-- Copies into the cloud that are made at once because a store is being emptied. A few thousand at most.
DROP INDEX CONCURRENTLY IF EXISTS replicas_drained_idx;
CREATE INDEX CONCURRENTLY replicas_drained_idx ON replicas (store, priority DESC, not_before, object_id)
    WHERE state = 'queued' AND run_id IS NULL AND copy_reason = 'drain';

-- Every row keeps to these by now; to look would block all reads meanwhile.
ALTER TABLE replicas
    -- squawk-ignore ban-drop-constraint -- added again by the same statement
    DROP CONSTRAINT IF EXISTS replicas_copy_has_a_reason,
    -- squawk-ignore ban-drop-constraint -- as above
    DROP CONSTRAINT IF EXISTS replicas_eviction_has_a_reason,
    ADD CONSTRAINT replicas_copy_has_a_reason
        CHECK (state NOT IN ('queued', 'copying') OR copy_reason IS NOT NULL) NOT VALID,
    ADD CONSTRAINT replicas_eviction_has_a_reason
        CHECK ((state = 'evicting') = (evict_reason IS NOT NULL)) NOT VALID;
