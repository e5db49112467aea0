-- Where every object is, where it should be, and the crossings that bring it there.

CREATE TYPE run_trigger AS ENUM ('schedule', 'cli', 'api');
CREATE TYPE run_status AS ENUM ('queued', 'running', 'succeeded', 'partial', 'failed', 'cancelled');

CREATE TABLE schedules (
    name       text PRIMARY KEY,
    -- The latest tick that became a run (or was joined to one); the next is computed from it.
    last_tick  timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE runs (
    id                  uuid PRIMARY KEY,
    trigger             run_trigger NOT NULL,
    requested_by        uuid REFERENCES users (id) ON DELETE SET NULL,
    schedule            text REFERENCES schedules (name) ON DELETE SET NULL,
    tick                timestamptz,
    -- What the run is limited to: {"user_id", "folder_id", "file_ids", "retry_failed"}.
    scope               jsonb NOT NULL DEFAULT '{}'::jsonb,
    status              run_status NOT NULL DEFAULT 'queued',
    files_total         bigint NOT NULL DEFAULT 0 CHECK (files_total >= 0),
    files_done          bigint NOT NULL DEFAULT 0 CHECK (files_done >= 0),
    files_failed        bigint NOT NULL DEFAULT 0 CHECK (files_failed >= 0),
    bytes_total         bigint NOT NULL DEFAULT 0 CHECK (bytes_total >= 0),
    bytes_done          bigint NOT NULL DEFAULT 0 CHECK (bytes_done >= 0),
    error               text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    cancel_requested_at timestamptz,
    finished_at         timestamptz,
    CONSTRAINT runs_finished_has_time CHECK (
        (status IN ('queued', 'running')) = (finished_at IS NULL)
    )
);
-- One crossing at a time: a second request joins it or is refused, whoever asks.
CREATE UNIQUE INDEX runs_one_active ON runs ((true)) WHERE status IN ('queued', 'running');
-- Exactly one run per tick, however many workers are up.
CREATE UNIQUE INDEX runs_one_per_tick ON runs (schedule, tick) WHERE tick IS NOT NULL;
CREATE INDEX runs_created_at_idx ON runs (created_at, id);
CREATE INDEX runs_requested_by_idx ON runs (requested_by);

CREATE TABLE workers (
    id           uuid PRIMARY KEY,
    host         text NOT NULL,
    pid          integer NOT NULL,
    version      text NOT NULL,
    state        text NOT NULL CHECK (state IN ('idle', 'working', 'draining')),
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX workers_heartbeat_at_idx ON workers (heartbeat_at);

CREATE TYPE replica_state AS ENUM ('queued', 'copying', 'present', 'evicting', 'failed', 'lost');

-- "This object should exist in this store", and how far that is true. The map and the queue in one table.
CREATE TABLE replicas (
    object_id     uuid NOT NULL REFERENCES objects (id) ON DELETE RESTRICT,
    store         text NOT NULL,
    state         replica_state NOT NULL,
    etag          text,
    storage_class text,
    rule          text,
    run_id        uuid REFERENCES runs (id) ON DELETE SET NULL,
    priority      smallint NOT NULL DEFAULT 0,
    attempts      integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Leases that ran out. A file that kills its worker each time must not be taken for ever.
    abandoned     integer NOT NULL DEFAULT 0 CHECK (abandoned >= 0),
    not_before    timestamptz NOT NULL DEFAULT now(),
    last_error    text,
    lease_token   uuid,
    lease_until   timestamptz,
    -- No foreign key: a lease outlives the row of a worker that was cleaned away.
    lease_worker  uuid,
    upload_id     text,
    part_size     bigint CHECK (part_size > 0),
    queued_at     timestamptz NOT NULL DEFAULT now(),
    verified_at   timestamptz,
    PRIMARY KEY (object_id, store),
    CONSTRAINT replicas_lease_together CHECK (
        (state IN ('copying', 'evicting')) = (lease_token IS NOT NULL)
        AND (lease_token IS NULL) = (lease_until IS NULL)
        AND (lease_token IS NULL) = (lease_worker IS NULL)
    ),
    CONSTRAINT replicas_present_is_verified CHECK (state <> 'present' OR verified_at IS NOT NULL)
);
-- "Next batch" reads this in order and stops after the batch, whatever the backlog.
CREATE INDEX replicas_claim_idx ON replicas (run_id, priority DESC, not_before, object_id) WHERE state = 'queued';
CREATE INDEX replicas_queued_without_run_idx ON replicas (object_id) WHERE state = 'queued' AND run_id IS NULL;
CREATE INDEX replicas_leased_idx ON replicas (lease_until) WHERE state IN ('copying', 'evicting');
CREATE INDEX replicas_in_flight_idx ON replicas (run_id) WHERE state = 'copying';
CREATE INDEX replicas_trouble_idx ON replicas (store, object_id) WHERE state IN ('failed', 'lost');
CREATE INDEX replicas_run_id_idx ON replicas (run_id);
CREATE INDEX replicas_present_idx ON replicas (store, verified_at) WHERE state = 'present';

-- Finished parts of an unfinished multipart upload: a killed worker resumes after them.
CREATE TABLE transfer_parts (
    object_id  uuid NOT NULL,
    store      text NOT NULL,
    upload_id  text NOT NULL,
    number     integer NOT NULL CHECK (number BETWEEN 1 AND 10000),
    size       bigint NOT NULL CHECK (size >= 0),
    etag       text NOT NULL,
    crc64nvme  bytea NOT NULL CHECK (octet_length(crc64nvme) = 8),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (object_id, store, upload_id, number),
    FOREIGN KEY (object_id, store) REFERENCES replicas (object_id, store) ON DELETE CASCADE
);

CREATE TABLE run_failures (
    id         uuid PRIMARY KEY,
    run_id     uuid NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    object_id  uuid NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    store      text NOT NULL,
    attempts   integer NOT NULL,
    error      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX run_failures_run_id_idx ON run_failures (run_id, id);
CREATE INDEX run_failures_object_id_idx ON run_failures (object_id);
