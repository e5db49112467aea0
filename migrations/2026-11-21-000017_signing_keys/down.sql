DROP TABLE identities;
DROP TABLE signing_keys;
