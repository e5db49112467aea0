-- Local stores are evened out: some replicas move from the fullest stores to the emptiest.

-- The store to which a replica is about to move. It stays where it is, and no rule frees it, until a verified one is there.
ALTER TABLE replicas ADD COLUMN moves_to text;
-- NOT VALID spares the reading of the whole table: every row that is there has none.
ALTER TABLE replicas ADD CONSTRAINT replicas_moves_elsewhere_check CHECK (moves_to <> store) NOT VALID;
-- A few thousand at most.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_moving_idx ON replicas (object_id, store) WHERE moves_to IS NOT NULL;

-- The last time that somebody asked for it: at most one row.
CREATE TABLE rebalances (
    id           smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    requested_by uuid REFERENCES users (id) ON DELETE SET NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    -- Per cent by which the share of a store may differ from the mean.
    tolerance    smallint NOT NULL CHECK (tolerance BETWEEN 0 AND 100),
    -- What keeps it from coming to its end, in words.
    waits_for    text,
    -- When it was called off; what was under way then still ends.
    stopped_at   timestamptz,
    finished_at  timestamptz
);
CREATE INDEX rebalances_requested_by_idx ON rebalances (requested_by);

-- From which store to which how much goes.
CREATE TABLE rebalance_routes (
    from_store    text NOT NULL,
    to_store      text NOT NULL CHECK (to_store <> from_store),
    -- What was planned: no more than this goes.
    files_planned bigint NOT NULL CHECK (files_planned >= 0),
    bytes_planned bigint NOT NULL CHECK (bytes_planned >= 0),
    -- What was begun; what of it is still under way has `moves_to`.
    files_begun   bigint NOT NULL DEFAULT 0,
    bytes_begun   bigint NOT NULL DEFAULT 0,
    -- Up to which object the store was looked through.
    looked_until  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- Nothing more is begun.
    all_begun     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (from_store, to_store)
);
