//! Postgres notifications, with which one process wakes another. Only a hint: listeners also poll, so a notification
//! lost with a connection costs time, never work.

use std::time::Duration;

use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt;

use super::{Database, connection};
use crate::error::{Error, Result};

/// Announces that a run was inserted or changed.
pub const RUNS: &str = "nightferry_runs";

/// A dedicated connection that waits for notifications on one channel.
pub struct Listener {
    conn: AsyncPgConnection,
}

impl Listener {
    /// Connects and starts listening.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn open(database: &Database, channel: &'static str) -> Result<Self> {
        let mut conn = database.dedicated().await?;
        diesel::sql_query(format!("LISTEN {channel}")).execute(&mut conn).await?;
        Ok(Self { conn })
    }

    /// Waits for a notification, at most `limit`. Returns whether one arrived.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] if the connection is lost: open a new listener.
    pub async fn wait(&mut self, limit: Duration) -> Result<bool> {
        let next = {
            let mut notifications = std::pin::pin!(self.conn.notifications_stream());
            tokio::time::timeout(limit, notifications.next()).await
        };
        match next {
            Ok(Some(Ok(_))) => Ok(true),
            Ok(Some(Err(error))) => Err(Error::from(error)),
            Ok(None) => Err(Error::DatabaseUnavailable("the listening connection was closed".to_owned())),
            // Nothing arrived. The stream does not report a lost connection, so it is checked. After a failover, it may
            // lead to the former primary, where nothing is announced any more.
            Err(_) => {
                if connection::is_writable(&mut self.conn).await? {
                    Ok(false)
                } else {
                    Err(Error::DatabaseUnavailable("the listening session is read-only".to_owned()))
                }
            }
        }
    }
}

/// Sends `payload` on `channel`, as part of the transaction of `conn`.
pub async fn notify(conn: &mut AsyncPgConnection, channel: &'static str, payload: &str) -> Result<()> {
    diesel::sql_query("SELECT pg_notify($1, $2)")
        .bind::<diesel::sql_types::Text, _>(channel)
        .bind::<diesel::sql_types::Text, _>(payload)
        .execute(conn)
        .await?;
    Ok(())
}
