-- What is planned costs what is new, not what there is.

-- Local copies whose object has not crossed, in the order in which plans look at them. It also has an entry for each copy in
-- the cloud, which is never read: which store is whose, only the configuration knows.
-- A migration is one transaction, so commits of copies wait while this is built: about a second per million copies.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX replicas_not_spare_idx ON replicas (store, object_id) WHERE state = 'present' AND spare_since IS NULL;
