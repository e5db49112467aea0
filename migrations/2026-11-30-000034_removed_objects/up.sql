-- A copy that was found in a store and could not be proved is present and not verified: `verified_at` is NULL until its
-- content has been read.
-- squawk-ignore ban-drop-constraint -- the version before verifies each copy before it calls it present
ALTER TABLE replicas DROP CONSTRAINT replicas_present_is_verified;

-- Objects whose content and rows were deleted. An object in a store without a row was deleted if it is listed here, and
-- is otherwise unknown: it may be newer than a restored database.
CREATE TABLE removed_objects (
    object_id  uuid PRIMARY KEY,
    removed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX removed_objects_removed_at_idx ON removed_objects (removed_at);
