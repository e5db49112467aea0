-- Loses: which of the lost copies are only suspect
ALTER TABLE store_health DROP COLUMN evidence;
ALTER TABLE replicas DROP COLUMN suspect_since;
