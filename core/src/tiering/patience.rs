//! The database may be away for a moment: work that is done is not thrown away for that.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as Diesel};

use crate::error::{Error, Result};
use crate::retry::{self, Retry, RetryPolicy};

/// About a minute. Longer than that, and the work is found by its lease running out.
const DATABASE_AWAY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(200),
    cap: Duration::from_secs(5),
    max_attempts: u32::MAX,
    max_elapsed: Some(Duration::from_secs(60)),
};

/// Repeats what can be repeated until the database answers.
///
/// # Errors
/// Whatever `work` meets; that the database is away, only after a minute.
pub async fn patiently<T, Fut>(work: impl FnMut() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    retry::retry(&DATABASE_AWAY, work, verdict).await
}

fn verdict(error: &Error) -> Retry {
    match error {
        Error::DatabaseUnavailable(_)
        // What a query meets when the server shuts down under it has no kind of its own.
        | Error::Database(Diesel::DatabaseError(
            DatabaseErrorKind::Unknown
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure,
            _,
        )) => Retry::Again,
        _ => Retry::Stop,
    }
}
