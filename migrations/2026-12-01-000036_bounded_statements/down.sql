-- Loses nothing: services count, continue and postpone anew.
ALTER TABLE runs RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE leases RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE files RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE objects RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE replicas RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor,
                            autovacuum_analyze_scale_factor);
DROP TABLE eviction_places;
DROP TABLE postponed_removals;
DROP TRIGGER replicas_count_deleted ON replicas;
DROP TRIGGER replicas_count_updated ON replicas;
DROP TRIGGER replicas_count_inserted ON replicas;
DROP FUNCTION replicas_count_changes();
DROP TABLE replica_count_base;
DROP VIEW replica_totals;
DROP TABLE replica_count_changes;
DROP TABLE replica_counts;
