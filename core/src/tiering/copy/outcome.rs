//! Handling of failed copies by the scope of the error: a copy is requeued if a store or the database caused the failure;
//! otherwise the failure counts as an attempt.

use std::time::Duration;

use crate::context::Context;
use crate::db::replicas::Claim;
use crate::error::Result;
use crate::ids::{LeaseToken, RunId};
use crate::object::health;
use crate::store::{Condition, StoreError};
use crate::stores::Probed;
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
    /// The whole store is in a state that passes, and is paused for this time: the copy is requeued; this is not counted
    /// as an attempt.
    Paused(Duration),
    /// The store refuses every file, because of its credentials, for example: the run is stopped; this is not counted as
    /// an attempt.
    Credentials,
    /// The copy failed: this is counted as an attempt.
    Copy,
}

impl Blame {
    /// Determines the cause of the failure of `claim`. Checks a store that seems to be down or to refuse everything, and
    /// pauses one that is in a condition that passes.
    pub async fn of(context: &Context, claim: &Claim, error: &CopyError) -> Self {
        match error {
            CopyError::LeaseLost => Self::Lease,
            CopyError::Database(_) => Self::Outage,
            CopyError::Store(error) => Self::of_store(context, claim, error).await,
            _ => Self::Copy,
        }
    }

    async fn of_store(context: &Context, claim: &Claim, error: &StoreError) -> Self {
        if let Some(condition) = error.condition() {
            return Self::of_condition(context, claim, error, condition);
        }
        if error.is_credentials() {
            return Self::Credentials;
        }
        if error.is_denied() {
            return Self::of_denial(context, error).await;
        }
        if health::is_outage(context, error).await {
            return Self::Outage;
        }
        // A store that limits the rate often says only this.
        if error.is_unavailable() {
            return Self::of_condition(context, claim, error, Condition::Throttled);
        }
        Self::Copy
    }

    /// Pauses the store, unless it serves all objects but this one.
    fn of_condition(context: &Context, claim: &Claim, error: &StoreError, condition: Condition) -> Self {
        let health = context.stores.health();
        if health.is_to_blame(error, claim.object_id) {
            Self::Paused(health.pause(error, condition, context.clock.now()))
        } else {
            Self::Copy
        }
    }

    /// A denial concerns one object unless the store also refuses a key that belongs to no file.
    async fn of_denial(context: &Context, error: &StoreError) -> Self {
        let Some(store) = context.stores.get(error.store().as_str()) else { return Self::Copy };
        match context.stores.probes().probe(store, error).await {
            Probed::Accepts => Self::Copy,
            Probed::Refuses => Self::Credentials,
            Probed::Unknown => Self::Outage,
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
        (Blame::Paused(pause), _) => pause,
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
