DROP TABLE personal_tokens;
DROP TABLE sessions;
