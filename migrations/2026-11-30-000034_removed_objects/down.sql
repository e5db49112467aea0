DROP TABLE removed_objects;
UPDATE replicas SET verified_at = 'epoch' WHERE state = 'present' AND verified_at IS NULL;
ALTER TABLE replicas
    ADD CONSTRAINT replicas_present_is_verified CHECK (state <> 'present' OR verified_at IS NOT NULL);
