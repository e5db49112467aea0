-- Loses: which objects were deleted, so that their remains look unknown; copies that nobody has read yet become lost
DROP TABLE removed_objects;
-- The version before this takes every present copy for a verified one, and would delete others because of it. A lost one it
-- only reads: scrub finds it intact.
UPDATE replicas SET state = 'lost' WHERE state = 'present' AND verified_at IS NULL;
ALTER TABLE replicas
    ADD CONSTRAINT replicas_present_is_verified CHECK (state <> 'present' OR verified_at IS NOT NULL);
