//! One connection that migrates, while no other process does.

use std::error::Error as StdError;
use std::pin::pin;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::migration::{self, Migration};
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind as Kind, Error as Diesel};
use diesel::sql_types::{Bool, Nullable, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::MigrationHarness;
use tokio::time::Instant;

use super::embedded::{Embedded, LOCK_TIMEOUT};
use super::script::{ALL, Script};
use crate::Database;
use crate::error::{Error, Result};
use crate::retry;

/// An arbitrary constant: identifies the advisory lock of migrations.
const ADVISORY_LOCK: i64 = 0x6e69_6768_7466_6572;
const ADVISORY_POLL: Duration = Duration::from_millis(50);

/// How long a migration tries to get its locks.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(10 * 60);
/// Between two attempts, requests that waited catch up.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// How often it is logged that a migration is still running.
const PROGRESS: Duration = Duration::from_secs(15);

/// How Postgres reports that a lock was not granted. diesel does not pass on the code of the error. In another
/// language, the migration fails at once and can be repeated.
const LOCK_MESSAGES: [&str; 2] = ["canceling statement due to lock timeout", "deadlock detected"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;

/// The connection. It is not one of the pool, and has no statement timeout.
pub(super) struct Session {
    /// `None` only while [`Self::on_harness`] has it, and after that has panicked.
    conn: Option<AsyncPgConnection>,
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    text: String,
}

#[derive(QueryableByName)]
struct OptionalLine {
    #[diesel(sql_type = Nullable<Text>)]
    text: Option<String>,
}

impl Session {
    /// Connects, and waits while another process is migrating.
    pub(super) async fn open(database: &Database) -> Result<Self> {
        let mut conn = Box::pin(database.dedicated()).await?;
        conn.batch_execute("SET statement_timeout = 0").await?;
        // Polls: a statement that waits for the lock has a snapshot, and CREATE INDEX CONCURRENTLY in the process that
        // holds the lock would wait for the end of that snapshot.
        let mut is_logged = false;
        while !try_lock(&mut conn).await? {
            if !is_logged {
                tracing::info!("another process is migrating the database; waiting for it");
                is_logged = true;
            }
            tokio::time::sleep(ADVISORY_POLL).await;
        }
        Ok(Self { conn: Some(conn) })
    }

    /// Lets the harness of diesel use the connection, on a thread that it may block until an answer arrives, which it
    /// does by way of the runtime. If the caller is dropped, this goes on to the end of `act`, or of the runtime.
    async fn on_harness<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Harness) -> migration::Result<T> + Send + 'static,
    ) -> Result<T> {
        let conn = self.conn.take().ok_or_else(lost)?;
        let work = move || {
            let mut harness = Harness::new(conn);
            let done = act(&mut harness);
            (harness.into_inner(), done)
        };
        let (conn, done) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::Internal(format!("migrating panicked: {error}")))?;
        self.conn = Some(conn);
        done.map_err(cause)
    }

    /// The connection, for statements that are no migrations.
    pub(super) fn connection(&mut self) -> Result<&mut AsyncPgConnection> {
        self.conn.as_mut().ok_or_else(lost)
    }

    /// The migrations that the database lacks, oldest first.
    pub(super) async fn pending(&mut self) -> Result<Vec<&'static Script>> {
        let versions: Vec<String> = self
            .on_harness(|harness| {
                let pending = MigrationHarness::<Pg>::pending_migrations(harness, Embedded)?;
                Ok(pending.iter().map(|migration| migration.name().version().to_string()).collect())
            })
            .await?;
        versions.iter().map(|version| known(version)).collect()
    }

    /// The newest applied migrations, newest first.
    pub(super) async fn newest(&mut self, count: usize) -> Result<Vec<&'static Script>> {
        let applied: Vec<String> = self
            .on_harness(|harness| {
                let versions = MigrationHarness::<Pg>::applied_migrations(harness)?;
                Ok(versions.iter().map(ToString::to_string).collect())
            })
            .await?;
        if applied.len() < count {
            let (asked, there) = (count, applied.len());
            return Err(Error::BadRequest(format!("{there} migrations are applied, fewer than {asked}")));
        }
        applied.iter().take(count).map(|version| known(version)).collect()
    }

    /// Other sessions of Nightferry in this database, in words.
    pub(super) async fn others(&mut self) -> Result<Vec<String>> {
        let sql = "SELECT concat(application_name, ' at ', coalesce(host(client_addr), 'a local socket'), \
                          ', backend ', pid) AS text \
                   FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid() \
                     AND application_name IN ('nightferry', current_setting('application_name')) \
                   ORDER BY pid";
        let lines: Vec<Line> = diesel::sql_query(sql).load(self.connection()?).await?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

    /// Applies or reverts a migration, and records it. Repeats it while it does not get its locks: it changed nothing
    /// then, or its statements can be repeated.
    pub(super) async fn run(&mut self, script: &'static Script, direction: Direction) -> Result<()> {
        let started = Instant::now();
        let mut attempt = 0;
        loop {
            let Err(error) = self.attempt(script, direction).await else { break };
            if !met_a_lock(&error) {
                return Err(failed(script, direction, error));
            }
            if started.elapsed() > MAX_LOCK_WAIT {
                return Err(blocked(script));
            }
            let pause = MIN_PAUSE + retry::delay(attempt, FIRST_PAUSE, MAX_PAUSE);
            tracing::warn!(
                migration = script.name,
                pause_seconds = pause.as_secs(),
                "the migration did not get a lock within {LOCK_TIMEOUT} and lets requests pass before it tries again"
            );
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
        tracing::info!(
            migration = script.name,
            seconds = started.elapsed().as_secs(),
            "migration {}",
            if direction == Direction::Up { "applied" } else { "reverted" }
        );
        Ok(())
    }

    /// Applies or reverts a migration, and logs from time to time that it is still running.
    async fn attempt(&mut self, script: &'static Script, direction: Direction) -> Result<()> {
        let started = Instant::now();
        let mut running = pin!(self.on_harness(move |harness| {
            let migration: &dyn Migration<Pg> = script;
            match direction {
                Direction::Up => harness.run_migration(migration)?,
                Direction::Down => harness.revert_migration(migration)?,
            };
            Ok(())
        }));
        loop {
            if let Ok(done) = tokio::time::timeout(PROGRESS, &mut running).await {
                return done;
            }
            let seconds = started.elapsed().as_secs();
            tracing::info!(migration = script.name, seconds, "the migration is still running");
        }
    }
}

async fn try_lock(conn: &mut AsyncPgConnection) -> Result<bool> {
    yes(conn, &format!("SELECT pg_try_advisory_lock({ADVISORY_LOCK}) AS yes")).await
}

/// The only column `yes` of the only row.
pub(super) async fn yes(conn: &mut AsyncPgConnection, sql: &str) -> Result<bool> {
    let answer: Answer = diesel::sql_query(sql).get_result(conn).await?;
    Ok(answer.yes)
}

/// The only column `text` of the only row.
pub(super) async fn one_text(conn: &mut AsyncPgConnection, sql: &str) -> Result<Option<String>> {
    let line: OptionalLine = diesel::sql_query(sql).get_result(conn).await?;
    Ok(line.text)
}

fn known(version: &str) -> Result<&'static Script> {
    ALL.iter().find(|script| script.version() == version).ok_or_else(|| {
        Error::Conflict(format!(
            "The migration {version} is not part of this version of Nightferry: use the version that applied it."
        ))
    })
}

fn lost() -> Error {
    Error::Internal("the connection was lost when migrating panicked".to_owned())
}

/// The harness and the scripts return errors of diesel as they are, without a name of the migration around them.
fn cause(error: Box<dyn StdError + Send + Sync>) -> Error {
    match error.downcast::<Diesel>() {
        Ok(error) => Error::from(*error),
        Err(other) => Error::Internal(other.to_string()),
    }
}

fn met_a_lock(error: &Error) -> bool {
    matches!(error, Error::Database(Diesel::DatabaseError(Kind::Unknown, info))
        if LOCK_MESSAGES.iter().any(|start| info.message().starts_with(start)))
}

fn blocked(script: &Script) -> Error {
    let (name, minutes) = (script.name, MAX_LOCK_WAIT.as_secs() / 60);
    Error::Conflict(format!(
        "The migration {name} did not get its locks for {minutes} minutes, because other transactions are open for \
         long: see pg_stat_activity. Requests are not affected; repeat it later."
    ))
}

fn failed(script: &Script, direction: Direction, error: Error) -> Error {
    let name = script.name;
    let hint = match &error {
        Error::Database(Diesel::DatabaseError(_, info)) => {
            info.hint().map(|hint| format!(" ({hint})")).unwrap_or_default()
        }
        _ => String::new(),
    };
    match (error, direction) {
        (error @ Error::DatabaseUnavailable(_), _) => error,
        (Error::Database(error), Direction::Down) => {
            Error::Conflict(format!("The migration {name} cannot be reverted: {error}{hint}"))
        }
        (error, _) => Error::Internal(format!("the migration {name} failed: {error}{hint}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it comes out of the harness.
    fn error(message: &str) -> Error {
        let error = Diesel::DatabaseError(Kind::Unknown, Box::new(message.to_owned()));
        cause(Box::new(error))
    }

    #[test]
    fn only_locks_are_worth_another_attempt() {
        assert!(met_a_lock(&error("canceling statement due to lock timeout")));
        assert!(met_a_lock(&error("deadlock detected")));
        assert!(!met_a_lock(&error("canceling statement due to statement timeout")));
        assert!(!met_a_lock(&error("relation \"files\" already exists")));
        assert!(!met_a_lock(&cause(Box::new(Diesel::NotFound))));
        assert!(!met_a_lock(&cause("deadlock detected".into())));
    }

    #[test]
    fn a_migration_that_cannot_be_reverted_is_a_conflict() {
        let script = Script { name: "1_a", up: "", down: "", in_transaction: true };
        let of = |direction, message| failed(&script, direction, error(message)).code();
        let conflict = crate::error::ErrorCode::Conflict;
        assert_eq!(of(Direction::Down, "some copies are encrypted"), conflict);
        assert_ne!(of(Direction::Up, "relation \"files\" already exists"), conflict);
        let closed = "terminating connection due to administrator command";
        assert_eq!(of(Direction::Down, closed), crate::error::ErrorCode::DatabaseUnavailable);
    }
}
