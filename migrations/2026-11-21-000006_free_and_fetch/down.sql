-- Loses: when local copies were last used, and since when they can be evicted
DROP TABLE chores;
DROP INDEX replicas_on_demand_idx;
DROP INDEX replicas_least_used_idx;
DROP INDEX replicas_spare_idx;
ALTER TABLE replicas DROP COLUMN spare_since, DROP COLUMN last_used_at;
