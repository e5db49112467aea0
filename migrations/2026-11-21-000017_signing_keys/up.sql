-- The keys that sign access tokens, shared by all API instances; and the sign-ins elsewhere that are linked to accounts.

CREATE TABLE signing_keys (
    -- The `kid` in the header of every token that it signs.
    id             text PRIMARY KEY CHECK (id <> '' AND length(id) <= 64),
    algorithm      text NOT NULL CHECK (algorithm IN ('HS256', 'RS256', 'EdDSA')),
    -- The private key, encrypted with a key that is derived from auth.secret_key.
    sealed         bytea NOT NULL,
    created_at     timestamptz NOT NULL,
    -- Of the keys whose time has come the latest signs.
    signs_from     timestamptz NOT NULL,
    -- When the last token that it signed has expired. NULL: no successor yet.
    verifies_until timestamptz
);
CREATE INDEX signing_keys_verifies_until_idx ON signing_keys (verifies_until);

-- An account is found by issuer and subject alone (OpenID Connect Core section 5.7): an address may change hands.
CREATE TABLE identities (
    issuer       text NOT NULL,
    subject      text NOT NULL CHECK (subject <> '' AND length(subject) <= 255),
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- As the provider said at the last sign-in.
    email        text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_user_id_idx ON identities (user_id);
