-- Why a copy is made and why a replica is deleted stand in the row, and are inferred from nothing else.

CREATE TYPE copy_reason AS ENUM ('policy', 'repair', 'drain', 'rebalance', 'replication', 'prefetch', 'cache-on-read');
CREATE TYPE evict_reason AS ENUM ('policy', 'watermark', 'drain', 'rebalance', 'leftover', 'surplus');

ALTER TABLE replicas
    -- Why the copy is made, or was made last. NULL: it was uploaded here, or found.
    ADD COLUMN copy_reason  copy_reason,
    ADD COLUMN evict_reason evict_reason;

-- The reasons of rows that are written without them: by processes of the previous version, which serve while this is applied,
-- and by a snapshot of the catalogue that one of those made. A later migration takes this away.
CREATE FUNCTION replicas_infer_reasons() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IN ('queued', 'copying') AND NEW.copy_reason IS NULL THEN
        NEW.copy_reason := CASE
            WHEN NEW.rule IN ('prefetch', 'cache-on-read') THEN NEW.rule
            WHEN NEW.rule = 'drain' OR NEW.priority >= 1000 THEN 'drain'
            WHEN NEW.verified_at IS NOT NULL THEN 'repair'
            WHEN NEW.rule IN ('rebalance', 'replication') THEN NEW.rule
            ELSE 'policy' END::copy_reason;
    END IF;
    IF NEW.state <> 'evicting' THEN
        NEW.evict_reason := NULL;
    ELSIF NEW.evict_reason IS NULL THEN
        NEW.evict_reason := CASE
            WHEN NEW.verified_at IS NULL AND NEW.rule = 'reconcile' THEN 'surplus'
            WHEN NEW.verified_at IS NULL THEN 'leftover'
            WHEN NEW.moves_to IS NOT NULL THEN 'rebalance'
            WHEN EXISTS (SELECT 1 FROM store_drains d WHERE d.store = NEW.store) THEN 'drain'
            ELSE 'policy' END::evict_reason;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER replicas_infer_reasons BEFORE INSERT OR UPDATE ON replicas FOR EACH ROW
    WHEN ((NEW.state = 'evicting') <> (NEW.evict_reason IS NOT NULL)
          OR (NEW.state IN ('queued', 'copying') AND NEW.copy_reason IS NULL))
    EXECUTE FUNCTION replicas_infer_reasons();
