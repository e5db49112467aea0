-- Loses nothing: services continue and postpone anew.
DROP TABLE eviction_places;
DROP TABLE postponed_removals;
