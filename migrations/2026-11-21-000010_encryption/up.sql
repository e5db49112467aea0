-- Which key a copy is encrypted with, and its seal: the copy's own key, sealed under that one. Both NULL: it lies in its
-- store as it is.

ALTER TABLE replicas
    ADD COLUMN key_id   text,
    ADD COLUMN envelope bytea,
    ADD CONSTRAINT replicas_sealed_together CHECK ((key_id IS NULL) = (envelope IS NULL)) NOT VALID;
-- Never validated: in every row that is here already both columns are NULL, and to look would block all reads meanwhile.
-- Which keys are still needed.
-- squawk-ignore require-concurrent-index-creation -- the column is new: the index is empty, and made by one look at the table
CREATE INDEX replicas_key_idx ON replicas (store, key_id) WHERE key_id IS NOT NULL;

-- Of a part that is encrypted: what the destination holds. crc64nvme stays that of the plain bytes.
ALTER TABLE transfer_parts
    ADD COLUMN sealed_crc64nvme bytea,
    ADD CONSTRAINT transfer_parts_sealed_crc_length CHECK (octet_length(sealed_crc64nvme) = 8) NOT VALID;
