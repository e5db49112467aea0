//! The scripts as migrations of diesel: its harness lists them, opens transactions and records versions.

use std::fmt;

use diesel::QueryResult;
use diesel::connection::BoxableConnection;
use diesel::migration::{
    Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result,
};
use diesel::pg::Pg;

use super::script::{ALL, Script, code, statements};

/// Requests that need a table wait behind a migration that waits for it: it waits only for this long each time.
pub(super) const LOCK_TIMEOUT: &str = "1s";

/// The embedded migrations. `embed_migrations!` does not fit: it sends a file as one batch, which Postgres executes as
/// one transaction even if the harness opens none.
pub(super) struct Embedded;

impl MigrationSource<Pg> for Embedded {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(ALL.iter().map(|script| -> Box<dyn Migration<Pg>> { Box::new(*script) }).collect())
    }
}

impl Migration<Pg> for Script {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(execute(self.up, self.in_transaction, conn)?)
    }

    fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(execute(self.down, self.in_transaction, conn)?)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationMetadata for Script {
    fn run_in_transaction(&self) -> bool {
        self.in_transaction
    }
}

impl MigrationName for Script {
    fn version(&self) -> MigrationVersion<'_> {
        // The method of `Script` itself, which has priority.
        MigrationVersion::from(Script::version(self))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn execute(sql: &str, in_transaction: bool, conn: &mut dyn BoxableConnection<Pg>) -> QueryResult<()> {
    if in_transaction {
        limit_waiting(true, conn)?;
        return conn.batch_execute(sql);
    }
    for statement in statements(sql) {
        limit_waiting(!is_concurrent(statement), conn)?;
        conn.batch_execute(statement)?;
    }
    Ok(())
}

/// By itself: in one batch with a statement, it would make that a part of a transaction.
fn limit_waiting(limited: bool, conn: &mut dyn BoxableConnection<Pg>) -> QueryResult<()> {
    let timeout = if limited { LOCK_TIMEOUT } else { "0" };
    conn.batch_execute(&format!("SET lock_timeout = '{timeout}'"))
}

/// Whether nothing waits behind the statement while it waits: it does not conflict with reads and writes of rows.
fn is_concurrent(statement: &str) -> bool {
    let code = code(statement);
    code.contains(" INDEX CONCURRENTLY ") || code.contains(" VALIDATE CONSTRAINT ")
}

#[cfg(test)]
mod tests {
    use diesel_migrations::{EmbeddedMigrations, embed_migrations};

    use super::*;

    const BY_DIESEL: EmbeddedMigrations = embed_migrations!("../../migrations");

    /// Names, versions, and whether they run in a transaction.
    fn described(source: &impl MigrationSource<Pg>) -> Vec<(String, String, bool)> {
        let migrations = source.migrations().unwrap();
        let described = migrations.iter().map(|migration| {
            let name = migration.name();
            (name.to_string(), name.version().to_string(), migration.metadata().run_in_transaction())
        });
        described.collect()
    }

    #[test]
    fn the_embedded_migrations_are_those_that_diesel_would_embed() {
        let ours = described(&Embedded);
        assert_eq!(ours, described(&BY_DIESEL));
        assert!(ours.iter().any(|(_, _, in_transaction)| *in_transaction));
        assert!(ours.iter().any(|(_, _, in_transaction)| !*in_transaction));
    }

    #[test]
    fn only_statements_that_block_nobody_wait_without_a_limit() {
        assert!(is_concurrent("-- Why\nCREATE UNIQUE INDEX CONCURRENTLY a ON b (c);"));
        assert!(is_concurrent("DROP INDEX CONCURRENTLY IF EXISTS a;"));
        assert!(is_concurrent("ALTER TABLE a VALIDATE CONSTRAINT b;"));
        assert!(!is_concurrent("CREATE INDEX a ON b (c); -- not CREATE INDEX CONCURRENTLY a"));
        assert!(!is_concurrent("ALTER TABLE a ADD COLUMN b text;"));
    }
}
