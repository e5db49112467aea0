ALTER TABLE replicas
    DROP CONSTRAINT replicas_copy_has_a_reason,
    DROP CONSTRAINT replicas_eviction_has_a_reason;
DROP INDEX replicas_drained_idx;
