-- Loses: the reports of reconcile and scrub
DROP TABLE passes;
DROP INDEX objects_key_bytes_idx;
