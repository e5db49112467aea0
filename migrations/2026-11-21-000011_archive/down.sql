-- Loses: the restores of archived copies that are in progress
DROP TABLE restores;
DROP TYPE restore_state;
