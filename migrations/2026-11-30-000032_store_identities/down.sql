-- Loses: the identities of the stores, so that a bucket exchanged meanwhile is not noticed
DROP TABLE store_identities;
