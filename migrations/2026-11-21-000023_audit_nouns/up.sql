-- All acts of a noun (`keys.*`) are found by the index that finds one act, whatever the database's collation is.

-- squawk-ignore require-concurrent-index-deletion -- replaced below
DROP INDEX audit_events_action_idx;
-- squawk-ignore require-concurrent-index-creation -- so far few acts were written
CREATE INDEX audit_events_action_idx ON audit_events (action text_pattern_ops, at, id);
