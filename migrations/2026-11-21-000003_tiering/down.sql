-- Loses: where every copy is, the runs and their failures
DROP TABLE run_failures;
DROP TABLE transfer_parts;
DROP TABLE replicas;
DROP TYPE replica_state;
DROP TABLE workers;
DROP TABLE runs;
DROP TABLE schedules;
DROP TYPE run_status;
DROP TYPE run_trigger;
