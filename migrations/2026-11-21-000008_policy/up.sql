-- Rules that decide where files go and when their local copies are freed, and plans of what a run would do.

ALTER TABLE replicas
    -- The rule by which a local copy is freed; its length of time stands in the configuration.
    ADD COLUMN free_rule text NOT NULL DEFAULT 'default',
    -- That rule keeps the copy whatever happens.
    ADD COLUMN keep_local boolean NOT NULL DEFAULT false;

-- Both hold only local copies that have crossed, a small part of the table. A migration is one transaction, so
-- freeing waits while they are built: about a second per million copies.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_free_idx ON replicas (store, free_rule, spare_since, object_id)
    WHERE state = 'present' AND spare_since IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX replicas_spare_idx;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX replicas_least_used_idx;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_least_used_idx ON replicas (store, last_used_at, object_id)
    WHERE state = 'present' AND spare_since IS NOT NULL AND NOT keep_local;

-- What a run would do, as somebody saw it. Nothing of it is done before a run is asked for that names the plan.
CREATE TABLE plans (
    id           uuid PRIMARY KEY,
    requested_by uuid REFERENCES users (id) ON DELETE SET NULL,
    -- What it is limited to, like that of a run.
    scope        jsonb NOT NULL DEFAULT '{}'::jsonb,
    -- Of the rules by which it was made.
    fingerprint  text NOT NULL,
    -- Copies, bytes and requests by rule, store and storage class.
    groups       jsonb NOT NULL DEFAULT '[]'::jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX plans_requested_by_idx ON plans (requested_by);
CREATE INDEX plans_expires_at_idx ON plans (expires_at);

-- No foreign keys to what is planned: what was deleted since then must be seen when the plan is executed.
CREATE TABLE plan_items (
    plan_id         uuid NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    object_id       uuid NOT NULL,
    store           text NOT NULL,
    rule            text NOT NULL,
    storage_class   text,
    priority        smallint NOT NULL,
    size            bigint NOT NULL CHECK (size >= 0),
    file_id         uuid,
    filename        text,
    version         integer,
    -- The file's current version then: another one means that it was overwritten.
    current_version integer,
    PRIMARY KEY (plan_id, object_id, store)
);
