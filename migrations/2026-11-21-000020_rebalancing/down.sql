-- Loses: the rebalancing in progress
DROP TABLE rebalance_routes;
DROP TABLE rebalances;
DROP INDEX replicas_moving_idx;
ALTER TABLE replicas DROP CONSTRAINT replicas_moves_elsewhere_check;
ALTER TABLE replicas DROP COLUMN moves_to;
