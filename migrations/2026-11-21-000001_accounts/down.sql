-- Loses: all accounts and their sessions
DROP TABLE revoked_tokens;
DROP TABLE refresh_tokens;
DROP TABLE users;
DROP TYPE user_role;
