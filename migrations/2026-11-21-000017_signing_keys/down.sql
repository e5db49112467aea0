-- Loses: the signing keys, and the identities linked to accounts
DROP TABLE identities;
DROP TABLE signing_keys;
