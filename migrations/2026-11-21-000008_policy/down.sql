-- Loses: the plans, and by which rule each local copy is evicted
DROP TABLE plan_items;
DROP TABLE plans;
DROP INDEX replicas_least_used_idx;
DROP INDEX replicas_free_idx;
CREATE INDEX replicas_spare_idx ON replicas (store, spare_since, object_id)
    WHERE state = 'present' AND spare_since IS NOT NULL;
CREATE INDEX replicas_least_used_idx ON replicas (store, last_used_at, object_id)
    WHERE state = 'present' AND spare_since IS NOT NULL;
ALTER TABLE replicas DROP COLUMN keep_local, DROP COLUMN free_rule;
