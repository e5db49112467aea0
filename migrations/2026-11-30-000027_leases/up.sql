-- Leases: one table for all work that one process at a time does. It held only some of that before, as `chores`.

-- Processes of the version before go on with the view below, so that both versions exclude each other.
-- squawk-ignore renaming-table
ALTER TABLE chores RENAME TO leases;
-- squawk-ignore renaming-column
ALTER TABLE leases RENAME COLUMN lease_token TO token;
-- squawk-ignore renaming-column
ALTER TABLE leases RENAME COLUMN lease_until TO until;
-- squawk-ignore renaming-object
ALTER TABLE leases RENAME CONSTRAINT chores_pkey TO leases_pkey;

-- For the version before only: a later migration drops it, and with it `passes.lease_token` and `passes.lease_until`.
CREATE VIEW chores AS SELECT name, token AS lease_token, until AS lease_until FROM leases;
