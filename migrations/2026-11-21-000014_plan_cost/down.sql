DROP INDEX replicas_not_spare_idx;
