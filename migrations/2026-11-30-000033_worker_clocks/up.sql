-- How far the clock of a worker's machine is ahead of that of the database, in milliseconds; negative: behind.
ALTER TABLE workers ADD COLUMN clock_ahead_ms bigint NOT NULL DEFAULT 0;
