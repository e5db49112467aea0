//! Where Postgres is and how long it may take.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::problem::Problems;
use super::spec::{Kind, Spec};
use super::{DEFAULT_SOURCE, rules, words};

/// The `[database]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Connection URL, `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// Connections kept at most by each process.
    pub pool_size: u32,
    /// Deadline for opening one connection.
    #[serde(deserialize_with = "words::duration")]
    pub connect_timeout: Duration,
    /// Deadline for getting a connection from the pool.
    #[serde(deserialize_with = "words::duration")]
    pub acquire_timeout: Duration,
    /// Deadline of one statement.
    #[serde(deserialize_with = "words::duration")]
    pub statement_timeout: Duration,
    /// Whether connections are encrypted. Already reconciled with the URL's `sslmode`.
    pub tls: DatabaseTls,
}

/// Whether connections to Postgres are encrypted (libpq's `sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseTls {
    /// Never.
    Disable,
    /// Where the server offers it.
    Prefer,
    /// Always; a server without it is an error.
    Require,
}

impl DatabaseTls {
    fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }

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
    /// Lets the URL's `sslmode` speak where `tls` was left alone. Returns the word it said.
    pub(super) fn adopt_tls_of_url(&mut self, problems: &mut Problems) -> Option<&'static str> {
        let said = DatabaseTls::of_url(self.url.expose_secret())?;
        if said == self.tls {
            return None;
        }
        if problems.origin("database.tls") != DEFAULT_SOURCE {
            problems.add_between(
                &["database.tls", "database.url"],
                format!("= \"{}\" contradicts sslmode={} in database.url", self.tls.word(), said.word()),
                "say it in one place: remove sslmode from the URL, or database.tls",
            );
            return None;
        }
        self.tls = said;
        Some(said.word())
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "database.url",
        Kind::Text { what: "a URL postgres://user:password@host:port/database", rule: rules::postgres_url },
        "Connection URL of Postgres 15 or newer: postgres://user:password@host:port/database.",
    )
    .secret()
    .required("a URL postgres://user:password@host:port/database"),
    Spec::new(
        "database.pool_size",
        Kind::count(1, 1000),
        "Connections kept at most by each process. The API and every worker have a pool of their own.",
    ),
    Spec::new("database.connect_timeout", Kind::seconds(1, 300), "Deadline for opening one connection."),
    Spec::new(
        "database.acquire_timeout",
        Kind::seconds(1, 300),
        "Deadline for getting a connection from the pool. A request that does not get one is answered with 503.",
    ),
    Spec::new(
        "database.statement_timeout",
        Kind::seconds(1, 3600),
        "Deadline of one statement, kept by Postgres.",
    ),
    Spec::new(
        "database.tls",
        Kind::OneOf(&["disable", "prefer", "require"]),
        "Whether connections are encrypted: never, where the server offers it, or always. A sslmode in the URL says \
         the same.",
    ),
];
