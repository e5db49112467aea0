-- Loses: which kind of actor each event of the audit log has
DROP INDEX users_acting_admins_idx;
CREATE INDEX audit_events_actor_id_idx ON audit_events (actor_id);
DROP INDEX audit_events_target_idx;
DROP INDEX audit_events_action_idx;
DROP INDEX audit_events_kind_idx;
DROP INDEX audit_events_actor_idx;
ALTER TABLE audit_events DROP COLUMN actor_kind;
DROP TYPE audit_actor;
