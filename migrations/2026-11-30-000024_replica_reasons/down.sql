-- Loses: why each copy was made
DROP TRIGGER replicas_infer_reasons ON replicas;
DROP FUNCTION replicas_infer_reasons();
ALTER TABLE replicas DROP COLUMN copy_reason, DROP COLUMN evict_reason;
DROP TYPE copy_reason;
DROP TYPE evict_reason;
