ALTER TABLE workers DROP COLUMN stores_down;
DROP INDEX runs_measured_idx;
DROP INDEX replicas_claim_largest_idx;
DROP INDEX replicas_claim_smallest_idx;
ALTER TABLE replicas DROP COLUMN object_size;
