//! What becomes of a claimed copy that failed: given back to the queue where a store or the database is to blame, and counted as
//! a try where the file is.

use std::time::Duration;

use super::copy::CopyError;
use super::{commit, run};
use crate::context::Context;
use crate::db::replicas::Claim;
use crate::error::Result;
use crate::ids::{LeaseToken, RunId};
use crate::object::health;

/// Before a copy is claimed again that was given back because a store is out of order.
const OUTAGE_DELAY: Duration = Duration::from_secs(2);
/// Delay before a copy without a run is claimed again that failed for invalid credentials.
const CREDENTIALS_DELAY: Duration = Duration::from_secs(60);

/// What is to blame for a failed copy, and so what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The lease: another worker has the copy by now.
    Lease,
    /// The database, or a whole store: the copy is given back, no try is counted.
    Outage,
    /// The credentials, which are wrong for every file: its run is stopped, no try is counted.
    Credentials,
    /// The copy: a try is counted.
    Copy,
}

impl Blame {
    /// Finds out; asks a store that seems to be out of order whether it is.
    pub async fn of(context: &Context, error: &CopyError) -> Self {
        match error {
            CopyError::LeaseLost => Self::Lease,
            CopyError::Database(_) => Self::Outage,
            CopyError::Store(error) if error.is_credentials() => Self::Credentials,
            CopyError::Store(error) if health::is_outage(context, error).await => Self::Outage,
            _ => Self::Copy,
        }
    }
}

/// Records a failed copy. Returns what [`commit::fail`] did where a try was counted.
///
/// # Errors
/// Any database error; the call may be repeated.
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
    // That the database was away says nothing of the copy.
    let text = Some(text.as_str()).filter(|_| !matches!(error, CopyError::Database(_)));
    commit::release(context, token, claim, text, pause).await?;
    Ok(None)
}
