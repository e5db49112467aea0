//! Postgres connection and timeouts.

use std::time::Duration;

use super::declare::settings;
use super::problem::Problems;
use super::{DEFAULT_SOURCE, validators};
use secrecy::{ExposeSecret, SecretString};

settings! {
    /// The `[database]` section.
    pub struct DatabaseConfig {
        /// Connection URL of Postgres 15 or newer: `postgres://user:password@host:port/database`.
        pub url: SecretString,
            text("a URL postgres://user:password@host:port/database", validators::postgres_url),
            required("a URL postgres://user:password@host:port/database"),
            example("postgres://nightferry:nightferry@127.0.0.1:5432/nightferry");
        /// Maximum number of connections of each process. The API and every worker have separate pools.
        pub pool_size: u32 = 10, range(1, 1000);
        /// Time limit for opening a connection.
        pub connect_timeout: Duration = "5s", lasts("1s", "5m");
        /// Time limit for getting a connection from the pool. A request that exceeds it fails with status 503.
        pub acquire_timeout: Duration = "5s", lasts("1s", "5m");
        /// Time limit of one statement, enforced by Postgres.
        pub statement_timeout: Duration = "30s", lasts("1s", "1h");
        /// Whether connections are encrypted: never, if the server supports it, or always. Equivalent to `sslmode` in
        /// the URL.
        pub tls: DatabaseTls = "prefer";
    }
}

/// Whether connections to Postgres are encrypted (libpq's `sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum DatabaseTls {
    /// Never.
    Disable,
    /// If the server supports it.
    Prefer,
    /// Always; a server without TLS is an error.
    Require,
}

impl DatabaseTls {
    fn of_url(url: &str) -> Option<Self> {
        if !url.contains("sslmode=") {
            return None;
        }
        match url.parse::<tokio_postgres::Config>().ok()?.get_ssl_mode() {
            tokio_postgres::config::SslMode::Disable => Some(Self::Disable),
            tokio_postgres::config::SslMode::Prefer => Some(Self::Prefer),
            tokio_postgres::config::SslMode::Require => Some(Self::Require),
            _ => None,
        }
    }
}

impl DatabaseConfig {
    /// Applies the URL's `sslmode` if `tls` was not set. Returns its value.
    pub(super) fn adopt_tls_of_url(&mut self, problems: &mut Problems) -> Option<&'static str> {
        let said = DatabaseTls::of_url(self.url.expose_secret())?;
        if said == self.tls {
            return None;
        }
        let word = said.into();
        if problems.origin("database.tls") != DEFAULT_SOURCE {
            problems.add_between(
                &["database.tls", "database.url"],
                format!("= \"{}\" contradicts sslmode={word} in database.url", <&str>::from(self.tls)),
                "set it in one place only: remove sslmode from the URL, or database.tls",
            );
            return None;
        }
        self.tls = said;
        Some(word)
    }
}
