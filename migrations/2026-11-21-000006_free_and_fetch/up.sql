-- What freeing local copies goes by stands in the copy's own row, so that an index finds the next ones.

ALTER TABLE replicas
    -- When the bytes were last stored, fetched or downloaded; downloads count to the hour.
    ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now(),
    -- From when the time until this copy is freed counts. NULL as long as no other copy was verified.
    ADD COLUMN spare_since timestamptz;

-- What was uploaded here and has crossed already.
UPDATE replicas l SET spare_since = c.verified_at
FROM replicas c
WHERE l.rule = 'upload' AND l.state = 'present'
  AND c.object_id = l.object_id AND c.store <> l.store AND c.state = 'present';

-- Both hold only local copies that have crossed, a small part of the table.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_spare_idx ON replicas (store, spare_since, object_id)
    WHERE state = 'present' AND spare_since IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_least_used_idx ON replicas (store, last_used_at, object_id)
    WHERE state = 'present' AND spare_since IS NOT NULL;
-- Copies that are wanted at once, outside of any run.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_on_demand_idx ON replicas (store, priority DESC, not_before, object_id)
    WHERE state = 'queued' AND run_id IS NULL;

-- Work that one worker at a time does, under a lease.
CREATE TABLE chores (
    name        text PRIMARY KEY,
    lease_token uuid NOT NULL,
    lease_until timestamptz NOT NULL
);
