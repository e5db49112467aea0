-- Reconcile and scrub: the map read in the order of a store's listing, and who makes a pass at this moment.

-- S3 lists keys in the order of their bytes, whatever the database's collation says.
-- A migration is one transaction, so uploads wait while this is built: about a second per million objects.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX objects_key_bytes_idx ON objects (key COLLATE "C");

-- One row per kind of pass: the lease of the one that is going on, and what the last finished one found.
CREATE TABLE passes (
    name        text PRIMARY KEY,
    lease_token uuid,
    lease_until timestamptz,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    report      jsonb NOT NULL DEFAULT '{}'::jsonb,
    CONSTRAINT passes_lease_together CHECK ((lease_token IS NULL) = (lease_until IS NULL))
);
