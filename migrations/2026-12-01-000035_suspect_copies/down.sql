-- Loses: which of the lost copies are only suspect
ALTER TABLE replicas DROP COLUMN suspect_since;
