-- When a pass that changes nothing in the stores found this copy missing or wrong. Only while the state is `lost`: such a
-- copy counts as no copy, like any lost one, but is not repaired before somebody decides so, or a later pass clears it.
-- There is no constraint, because processes of the previous version leave the column as it is; it is ignored in all
-- other states.
ALTER TABLE replicas ADD COLUMN suspect_since timestamptz;
