-- Loses: the audit log
DROP TABLE audit_events;
