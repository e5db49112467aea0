-- The audit log can be read: by who, what, on what and when, newest first, each over an index of its own.

CREATE TYPE audit_actor AS ENUM ('user', 'cli', 'system', 'anonymous');

-- Rows of before are of users where they name one; of the others it was not kept who they were.
ALTER TABLE audit_events ADD COLUMN actor_kind audit_actor NOT NULL DEFAULT 'system';

-- squawk-ignore require-concurrent-index-creation -- so far few acts were written
CREATE INDEX audit_events_actor_idx ON audit_events (actor_id, at, id);
-- squawk-ignore require-concurrent-index-creation -- as above
CREATE INDEX audit_events_kind_idx ON audit_events (actor_kind, at, id) WHERE actor_id IS NULL;
-- squawk-ignore require-concurrent-index-creation -- as above
CREATE INDEX audit_events_action_idx ON audit_events (action, at, id);
-- squawk-ignore require-concurrent-index-creation -- as above
CREATE INDEX audit_events_target_idx ON audit_events (target_id, at, id);
-- squawk-ignore require-concurrent-index-deletion -- the first of the new ones does its work
DROP INDEX audit_events_actor_id_idx;

-- Whoever takes an administrator away looks whether another one is left.
-- squawk-ignore require-concurrent-index-creation -- there are few administrators
CREATE INDEX users_acting_admins_idx ON users (id) WHERE role = 'admin' AND disabled_at IS NULL;
