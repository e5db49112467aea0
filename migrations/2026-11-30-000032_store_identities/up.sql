-- The identity of each store: the UUID in the marker object of its bucket.

CREATE TABLE store_identities (
    store       text PRIMARY KEY,
    -- Two stores never have the same: they would be one bucket.
    identity    uuid NOT NULL UNIQUE,
    -- Where it was found, for information.
    endpoint    text NOT NULL,
    bucket      text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    -- When the marker was first seen in the bucket. Until then it may still have to be written.
    marked_at   timestamptz
);
