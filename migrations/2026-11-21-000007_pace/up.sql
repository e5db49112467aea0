-- What the pace of runs needs: queues by size, what recent runs managed, and which stores a worker waits for.

-- Known only where runs go by size (tiering.order); everybody else pays nothing for it.
ALTER TABLE replicas ADD COLUMN object_size bigint;
-- Files that failed before are no part of these: they come after all others, in the order in which they are due.
-- squawk-ignore require-concurrent-index-creation -- the column is new: the index is empty, and made by one look at the table
CREATE INDEX replicas_claim_smallest_idx ON replicas (run_id, priority DESC, object_size, object_id)
    WHERE state = 'queued' AND attempts = 0 AND object_size IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation -- as above
CREATE INDEX replicas_claim_largest_idx ON replicas (run_id, priority DESC, object_size DESC, object_id)
    WHERE state = 'queued' AND attempts = 0 AND object_size IS NOT NULL;

-- squawk-ignore require-concurrent-index-creation -- there are few runs
CREATE INDEX runs_measured_idx ON runs (finished_at) WHERE files_done > 0 AND finished_at IS NOT NULL;

-- A list of names.
ALTER TABLE workers ADD COLUMN stores_down jsonb NOT NULL DEFAULT '[]'::jsonb;
