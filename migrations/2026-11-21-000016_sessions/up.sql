-- Sessions get a row of their own: each request asks it whether the session still lives, so that ending one ends its access
-- tokens at every instance at once. And tokens for programs.

-- The id is the family of the session's refresh tokens.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- From where it was last continued.
    ip           text NOT NULL DEFAULT '',
    user_agent   text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_user_id_idx ON sessions (user_id, id);
CREATE INDEX sessions_expires_at_idx ON sessions (expires_at);

-- Whoever is signed in stays so. A session is over when its latest refresh token was revoked.
INSERT INTO sessions (id, user_id, ip, user_agent, created_at, last_used_at, expires_at, revoked_at)
SELECT DISTINCT ON (family)
    family, user_id, ip, user_agent, min(created_at) OVER (PARTITION BY family), created_at, expires_at, revoked_at
FROM refresh_tokens
ORDER BY family, created_at DESC;

CREATE TABLE personal_tokens (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         text NOT NULL CHECK (name <> '' AND length(name) <= 100),
    token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    -- Names, a space between (RFC 6749 section 3.3).
    scopes       text NOT NULL CHECK (
        scopes <> '' AND string_to_array(scopes, ' ') <@ ARRAY['files:read', 'files:write', 'sync', 'admin']
    ),
    created_at   timestamptz NOT NULL,
    -- NULL: never.
    expires_at   timestamptz,
    -- To about ten minutes.
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX personal_tokens_user_id_idx ON personal_tokens (user_id, id);
CREATE INDEX personal_tokens_revoked_at_idx ON personal_tokens (revoked_at) WHERE revoked_at IS NOT NULL;
