ALTER TABLE workers DROP COLUMN clock_ahead_ms;
