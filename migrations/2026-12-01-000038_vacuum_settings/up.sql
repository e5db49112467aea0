-- By default a table is vacuumed when a fifth of it is dead, which are two million rows of ten: until then each claim
-- skips the index entries of the copies before it.
ALTER TABLE replicas SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.05,
                          autovacuum_analyze_scale_factor = 0.02);
-- A removed object leaves the index of removals only when it is vacuumed.
ALTER TABLE objects SET (autovacuum_vacuum_scale_factor = 0.02);
-- A synced or downloaded file is updated in columns without an index: with space left in its page, no index changes.
ALTER TABLE files SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);
-- A few rows, each updated every few seconds in columns without an index.
ALTER TABLE leases SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
-- The row of the active run is updated with each committed batch.
ALTER TABLE runs SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
