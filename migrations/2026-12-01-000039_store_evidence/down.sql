ALTER TABLE store_health DROP COLUMN evidence;
