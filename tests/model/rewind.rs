//! Postgres is restored to an earlier moment: every table, from a copy in the same database. All processes are stopped
//! for that.

use diesel_async::SimpleAsyncConnection as _;

use crate::check::Map;
use crate::oracle::{File, Version};
use crate::sequence::Sequence;

/// What was known when the database was backed up.
#[derive(Debug)]
pub(crate) struct Backup {
    files: Vec<File>,
    versions: Vec<Version>,
    /// The seconds that have passed since.
    pub(crate) seconds: u32,
}

/// Creates a copy of every table, and the function that fills them, or the tables from them. Without triggers and foreign
/// keys meanwhile: the tables are complete at the end.
pub(crate) const CREATE_BACKUP: &str = "CREATE SCHEMA backup; \
    DO $$ DECLARE t record; BEGIN \
        FOR t IN SELECT schemaname AS home, tablename AS name FROM pg_tables WHERE schemaname IN ('public', 'observed') LOOP \
            EXECUTE format('CREATE TABLE backup.%I (LIKE %I.%I)', t.name, t.home, t.name); \
        END LOOP; END $$; \
    CREATE FUNCTION backup.copy(restoring boolean) RETURNS void LANGUAGE plpgsql AS $$ DECLARE t record; BEGIN \
        IF restoring THEN PERFORM set_config('session_replication_role', 'replica', true); END IF; \
        FOR t IN SELECT schemaname AS home, tablename AS name FROM pg_tables WHERE schemaname IN ('public', 'observed') LOOP \
            IF restoring THEN \
                EXECUTE format('DELETE FROM %I.%I', t.home, t.name); \
                EXECUTE format('INSERT INTO %I.%I OVERRIDING SYSTEM VALUE SELECT * FROM backup.%I', t.home, t.name, t.name); \
            ELSE \
                EXECUTE format('DELETE FROM backup.%I', t.name); \
                EXECUTE format('INSERT INTO backup.%I SELECT * FROM %I.%I', t.name, t.home, t.name); \
            END IF; \
        END LOOP; END $$";

impl Sequence<'_> {
    /// Backs up the database, if it knows a file: a database without objects permits no deletion at all.
    pub(crate) async fn back_up(&mut self) {
        self.drop_stalled(|_| true).await;
        if self.oracle.kept().next().is_none() {
            return;
        }
        self.copy_tables(false).await;
        let (files, versions) = (self.oracle.files.clone(), self.oracle.versions.clone());
        self.backup = Some(Backup { files, versions, seconds: 0 });
    }

    /// Restores the last backup, if there is one.
    pub(crate) async fn rewind(&mut self) {
        let Some(Backup { files, versions, seconds }) = self.backup.take() else { return };
        self.drop_stalled(|_| true).await;
        self.copy_tables(true).await;
        self.make_rows_older(seconds).await;
        let (truth, map) = (self.truth().await, Map::read(&self.context).await);
        self.oracle.rewind(files, versions, &truth, &map);
    }

    /// On a connection of its own: switching triggers off discards all plans of a connection.
    async fn copy_tables(&self, restoring: bool) {
        let mut conn = self.context.db.dedicated().await.unwrap();
        conn.batch_execute(&format!("SELECT backup.copy({restoring})")).await.unwrap();
    }
}
