DROP TABLE restores;
DROP TYPE restore_state;
