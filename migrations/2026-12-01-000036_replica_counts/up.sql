-- The number and bytes of the replicas of each store in each state. Every statement that changes replicas adds rows to
-- `replica_count_changes` instead of updating these, so that no two transactions wait for the same row; workers add the
-- changes up. Both tables together are exact at every commit.
CREATE TABLE replica_counts (
    store       text NOT NULL,
    state       replica_state NOT NULL,
    is_verified boolean NOT NULL,
    is_suspect  boolean NOT NULL,
    replicas    bigint NOT NULL,
    bytes       bigint NOT NULL,
    PRIMARY KEY (store, state, is_verified, is_suspect)
);
-- A queue of short-lived rows: it is vacuumed by the number of its dead rows alone, because it is usually empty.
CREATE TABLE replica_count_changes (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store       text NOT NULL,
    state       replica_state NOT NULL,
    is_verified boolean NOT NULL,
    is_suspect  boolean NOT NULL,
    replicas    bigint NOT NULL,
    bytes       bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 50000);
CREATE VIEW replica_totals AS
    SELECT store, state, is_verified, is_suspect, sum(replicas)::bigint AS replicas, sum(bytes)::bigint AS bytes FROM (
        SELECT store, state, is_verified, is_suspect, replicas, bytes FROM replica_counts
        UNION ALL SELECT store, state, is_verified, is_suspect, replicas, bytes FROM replica_count_changes
    ) c GROUP BY store, state, is_verified, is_suspect;

-- One row, once the replicas that are older than the triggers were counted. Counting them here would keep writers out
-- for as long as it takes; a worker does it later, in one snapshot.
CREATE TABLE replica_count_base (
    id         smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    counted_at timestamptz NOT NULL DEFAULT now()
);

-- The size of an object is looked up in a subquery: with a join, a session could keep a plan made for a large statement,
-- which reads all objects, and use it for each single copy.
CREATE FUNCTION replicas_count_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO replica_count_changes (store, state, is_verified, is_suspect, replicas, bytes)
        SELECT r.store, r.state, r.verified_at IS NOT NULL, r.state = 'lost' AND r.suspect_since IS NOT NULL, count(*),
               coalesce(sum((SELECT o.size FROM objects o WHERE o.id = r.object_id)), 0)
        FROM rows_after r GROUP BY 1, 2, 3, 4;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO replica_count_changes (store, state, is_verified, is_suspect, replicas, bytes)
        SELECT r.store, r.state, r.verified_at IS NOT NULL, r.state = 'lost' AND r.suspect_since IS NOT NULL, -count(*),
               -coalesce(sum((SELECT o.size FROM objects o WHERE o.id = r.object_id)), 0)
        FROM rows_before r GROUP BY 1, 2, 3, 4;
    ELSE
        -- Most updates change no count: leases, runs, times of use.
        INSERT INTO replica_count_changes (store, state, is_verified, is_suspect, replicas, bytes)
        SELECT d.store, d.state, d.is_verified, d.is_suspect, sum(d.one),
               coalesce(sum(d.one * (SELECT o.size FROM objects o WHERE o.id = d.object_id)), 0)
        FROM (
            SELECT 1 AS one, i.* FROM (
                SELECT object_id, store, state, verified_at IS NOT NULL AS is_verified,
                       state = 'lost' AND suspect_since IS NOT NULL AS is_suspect FROM rows_after
                EXCEPT ALL
                SELECT object_id, store, state, verified_at IS NOT NULL,
                       state = 'lost' AND suspect_since IS NOT NULL FROM rows_before
            ) i
            UNION ALL
            SELECT -1 AS one, g.* FROM (
                SELECT object_id, store, state, verified_at IS NOT NULL AS is_verified,
                       state = 'lost' AND suspect_since IS NOT NULL AS is_suspect FROM rows_before
                EXCEPT ALL
                SELECT object_id, store, state, verified_at IS NOT NULL,
                       state = 'lost' AND suspect_since IS NOT NULL FROM rows_after
            ) g
        ) d GROUP BY 1, 2, 3, 4;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER replicas_count_inserted AFTER INSERT ON replicas REFERENCING NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION replicas_count_changes();
CREATE TRIGGER replicas_count_updated AFTER UPDATE ON replicas REFERENCING OLD TABLE AS rows_before NEW TABLE AS rows_after
    FOR EACH STATEMENT EXECUTE FUNCTION replicas_count_changes();
CREATE TRIGGER replicas_count_deleted AFTER DELETE ON replicas REFERENCING OLD TABLE AS rows_before
    FOR EACH STATEMENT EXECUTE FUNCTION replicas_count_changes();

-- The triggers see every replica of a new database.
INSERT INTO replica_count_base (id) SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM replicas);
