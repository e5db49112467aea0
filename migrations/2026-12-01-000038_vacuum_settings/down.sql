ALTER TABLE runs RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE leases RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE files RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE objects RESET (autovacuum_vacuum_scale_factor);
ALTER TABLE replicas RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor,
                            autovacuum_analyze_scale_factor);
