-- How a process verifies what it writes to the store: `response`, `head` or `read`, the most expensive of all ways of
-- sending; NULL until its canaries have shown what the store verifies. For display.
ALTER TABLE store_health ADD COLUMN evidence text;
