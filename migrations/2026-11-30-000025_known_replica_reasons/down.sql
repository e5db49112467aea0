ALTER TABLE replicas
    DROP CONSTRAINT IF EXISTS replicas_copy_has_a_reason,
    DROP CONSTRAINT IF EXISTS replicas_eviction_has_a_reason;
DROP INDEX CONCURRENTLY IF EXISTS replicas_drained_idx;
