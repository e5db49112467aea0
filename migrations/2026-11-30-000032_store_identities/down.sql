DROP TABLE store_identities;
