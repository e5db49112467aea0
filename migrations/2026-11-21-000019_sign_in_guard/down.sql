-- Loses: failed sign-ins, and the networks that accounts are known in
DROP TABLE known_networks;
DROP TABLE sign_in_failures;
