//! Catalogue snapshots in the cloud store: whether they are written, how many are kept, and how they are signed.

use super::declare::settings;
use super::validators;
use secrecy::SecretString;

settings! {
    /// The `[catalog]` section.
    pub struct CatalogConfig {
        /// Whether a worker writes a snapshot of the catalogue to the cloud store after each run that made changes.
        pub after_runs: bool = true;
        /// Number of newest snapshots to keep.
        pub keep: usize = 10, range(1, 1000);
        /// In addition, the newest snapshot of each day is kept, for this many days that have snapshots.
        pub keep_days: usize = 30, range(0, 1000);
        /// Key that signs snapshots and encrypts the password hashes in them. Store it separately from the database and
        /// the stores: without it, snapshots cannot be used.
        pub secret_key: Option<SecretString>,
            text("at least 32 random bytes; generate them with `openssl rand -hex 32`", validators::signing_key),
            unset("keys are derived from auth.secret_key");
    }
}
