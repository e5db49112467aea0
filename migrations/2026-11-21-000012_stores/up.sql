-- Stores that are being emptied, and what each process knows of every store.

-- Nothing new is written to a store that has a row here, until the row is deleted.
CREATE TABLE store_drains (
    store          text PRIMARY KEY,
    requested_by   uuid REFERENCES users (id) ON DELETE SET NULL,
    requested_at   timestamptz NOT NULL DEFAULT now(),
    -- What it held then: the rest of it is what is still to be done.
    replicas_total bigint NOT NULL CHECK (replicas_total >= 0),
    bytes_total    bigint NOT NULL CHECK (bytes_total >= 0),
    -- What keeps it from coming to its end, in words.
    waits_for      text,
    -- When nothing was left in it.
    finished_at    timestamptz
);
CREATE INDEX store_drains_requested_by_idx ON store_drains (requested_by);

-- How a store looks from one process. Each writes its own rows, so that none overwrites what another sees.
CREATE TABLE store_health (
    store      text NOT NULL,
    observer   uuid NOT NULL,
    program    text NOT NULL CHECK (program IN ('api', 'worker')),
    up         boolean NOT NULL,
    since      timestamptz NOT NULL,
    latency_ms integer CHECK (latency_ms >= 0),
    last_error text,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (store, observer)
);
CREATE INDEX store_health_checked_at_idx ON store_health (checked_at);
