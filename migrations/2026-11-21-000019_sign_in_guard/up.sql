-- Guessing passwords is slowed down where it comes from, and nobody can lock somebody else out by it.

-- Failed sign-ins by account and network. The account is a hash of the address, whether or not there is such an
-- account, so that both are treated alike. Rows go when their window has passed.
CREATE TABLE sign_in_failures (
    account       bytea NOT NULL CHECK (octet_length(account) = 32),
    network       text NOT NULL,
    failures      integer NOT NULL CHECK (failures > 0),
    -- When the first one of the window was.
    began_at      timestamptz NOT NULL,
    -- How often in a row the limit was reached: each time the wait doubles.
    blocks        smallint NOT NULL DEFAULT 0 CHECK (blocks >= 0),
    blocked_until timestamptz,
    -- From when on nothing of the row matters any more.
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (account, network)
);
CREATE INDEX sign_in_failures_expires_at_idx ON sign_in_failures (expires_at);

-- From where the owner of an account has signed in: there, what strangers do elsewhere does not count.
CREATE TABLE known_networks (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network text NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, network)
);
CREATE INDEX known_networks_last_at_idx ON known_networks (last_at);
