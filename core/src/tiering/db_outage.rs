//! Retries during short database outages, so that finished work is not lost.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as Diesel};

use crate::error::{Error, Result};
use crate::retry::{self, Retry, RetryPolicy};

/// About a minute. After that, the work is recovered when its lease expires.
const DB_OUTAGE_RETRY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(200),
    cap: Duration::from_secs(5),
    max_attempts: u32::MAX,
    max_elapsed: Some(Duration::from_secs(60)),
};

/// Repeats an idempotent operation until the database responds.
///
/// # Errors
/// Any error of `work`; an unavailable database only after a minute.
pub async fn retry_on_db_outage<T, Fut>(work: impl FnMut() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    retry::retry(&DB_OUTAGE_RETRY, work, verdict).await
}

fn verdict(error: &Error) -> Retry {
    match error {
        Error::DatabaseUnavailable(_)
        // The error of a query during a server shutdown has no kind of its own.
        | Error::Database(Diesel::DatabaseError(
            DatabaseErrorKind::Unknown
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure,
            _,
        )) => Retry::Again,
        _ => Retry::Stop,
    }
}
