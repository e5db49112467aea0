-- Objects whose removal failed or took too long. They are tried after all others, so that a few that hang do not keep the
-- reaper from the rest.
CREATE TABLE postponed_removals (
    object_id uuid PRIMARY KEY REFERENCES objects (id) ON DELETE CASCADE,
    tried_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX postponed_removals_tried_at_idx ON postponed_removals (tried_at);

-- Where the next pass of evictions continues in each order, if the last one has not reached the end: copies that cannot be
-- evicted now, such as those of pinned files, are not examined again by every pass.
CREATE TABLE eviction_places (
    store     text NOT NULL,
    ordering  text NOT NULL,
    at        timestamptz NOT NULL,
    object_id uuid NOT NULL,
    PRIMARY KEY (store, ordering)
);
