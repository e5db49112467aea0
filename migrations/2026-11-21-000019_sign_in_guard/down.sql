DROP TABLE known_networks;
DROP TABLE sign_in_failures;
