-- Loses: all sessions and personal access tokens
DROP TABLE personal_tokens;
DROP TABLE sessions;
