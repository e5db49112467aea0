-- Copies in an archive class cannot be read before their store was asked to restore them, which takes hours. One row for
-- each that was asked for; however many ask, it is one.

CREATE TYPE restore_state AS ENUM ('wanted', 'restoring', 'ready', 'failed');

CREATE TABLE restores (
    id           uuid PRIMARY KEY,
    object_id    uuid NOT NULL,
    store        text NOT NULL,
    state        restore_state NOT NULL DEFAULT 'wanted',
    requested_by uuid REFERENCES users (id) ON DELETE SET NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    -- When the store took the request, and when it had done it.
    asked_at     timestamptz,
    ready_at     timestamptz,
    -- Until when the restored copy can be read; NULL: for ever, it is in no archive class any more.
    expires_at   timestamptz,
    -- Whoever looks at the store moves this on first, so that no two look at once.
    next_look_at timestamptz NOT NULL DEFAULT now(),
    attempts     integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    last_error   text,
    UNIQUE (object_id, store),
    FOREIGN KEY (object_id, store) REFERENCES replicas (object_id, store) ON DELETE CASCADE,
    CONSTRAINT restores_ready_has_time CHECK (state <> 'ready' OR ready_at IS NOT NULL)
);
CREATE INDEX restores_due_idx ON restores (next_look_at) WHERE state IN ('wanted', 'restoring');
CREATE INDEX restores_requested_by_idx ON restores (requested_by);
