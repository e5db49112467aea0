-- A version without these columns would take encrypted bytes for the file's, and without them the keys of the copies
-- would be forgotten.
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM replicas WHERE key_id IS NOT NULL) THEN
        RAISE EXCEPTION 'some copies are encrypted, which the version before this does not know'
            USING HINT = 'See docs/encryption.md, "Switching it off again".';
    END IF;
END $$;
ALTER TABLE transfer_parts DROP COLUMN sealed_crc64nvme;
DROP INDEX replicas_key_idx;
ALTER TABLE replicas DROP COLUMN envelope, DROP COLUMN key_id;
