//! Handling of failed copies: a copy is requeued if a store or the database caused the failure; otherwise the failure
//! counts as an attempt.

use std::time::Duration;

use crate::context::Context;
use crate::db::replicas::Claim;
use crate::error::Result;
use crate::ids::{LeaseToken, RunId};
use crate::object::health;
use crate::tiering::copy::CopyError;
use crate::tiering::{commit, run};

/// Delay before a copy that was requeued because a store is down is claimed again.
const OUTAGE_DELAY: Duration = Duration::from_secs(2);
/// Delay before a copy without a run is claimed again that failed for invalid credentials.
const CREDENTIALS_DELAY: Duration = Duration::from_secs(60);

/// The cause of a failed copy, which determines how it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The lease was lost: another worker has the copy.
    Lease,
    /// The database or a whole store failed: the copy is requeued; this is not counted as an attempt.
    Outage,
    /// The credentials are wrong, for every file: the run is stopped; this is not counted as an attempt.
    Credentials,
    /// The copy failed: this is counted as an attempt.
    Copy,
}

impl Blame {
    /// Determines the cause; checks a store that seems to be down.
    pub async fn of(context: &Context, error: &CopyError) -> Self {
        match error {
            CopyError::LeaseLost => Self::Lease,
            CopyError::Database(_) => Self::Outage,
            CopyError::Store(error) if error.is_credentials() => Self::Credentials,
            // Another time is a matter of the whole store, even if it accepts some requests.
            CopyError::Store(error) if health::is_outage(context, error).await || error.is_clock_skew() => {
                Self::Outage
            }
            _ => Self::Copy,
        }
    }
}

/// Records a failed copy. Returns the result of [`commit::fail`] if an attempt was counted.
///
/// # Errors
/// Any database error; the call can be repeated.
pub async fn record_failure(
    context: &Context,
    run: Option<RunId>,
    token: LeaseToken,
    claim: &Claim,
    error: &CopyError,
    blame: Blame,
) -> Result<Option<commit::Outcome>> {
    let text = error.to_string();
    let pause = match (blame, run) {
        (Blame::Lease, _) => return Ok(None),
        (Blame::Copy, _) => return commit::fail(context, claim, token, run, error).await.map(Some),
        (Blame::Outage, _) => OUTAGE_DELAY,
        (Blame::Credentials, None) => CREDENTIALS_DELAY,
        (Blame::Credentials, Some(run)) => {
            run::stop(context, run, &text).await?;
            Duration::ZERO
        }
    };
    // A database outage is not a failure of the copy.
    let text = Some(text.as_str()).filter(|_| !matches!(error, CopyError::Database(_)));
    commit::release(context, token, claim, text, pause).await?;
    Ok(None)
}
