DROP INDEX audit_events_action_idx;
CREATE INDEX audit_events_action_idx ON audit_events (action, at, id);
