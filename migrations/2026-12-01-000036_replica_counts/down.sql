-- Loses nothing: services count anew.
DROP TRIGGER replicas_count_deleted ON replicas;
DROP TRIGGER replicas_count_updated ON replicas;
DROP TRIGGER replicas_count_inserted ON replicas;
DROP FUNCTION replicas_count_changes();
DROP TABLE replica_count_base;
DROP VIEW replica_totals;
DROP TABLE replica_count_changes;
DROP TABLE replica_counts;
