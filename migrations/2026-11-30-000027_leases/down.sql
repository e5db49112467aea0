DROP VIEW chores;
ALTER TABLE leases RENAME CONSTRAINT leases_pkey TO chores_pkey;
ALTER TABLE leases RENAME COLUMN until TO lease_until;
ALTER TABLE leases RENAME COLUMN token TO lease_token;
ALTER TABLE leases RENAME TO chores;
