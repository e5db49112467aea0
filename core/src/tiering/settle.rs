//! The switch: what was copied and proved becomes `present`, what failed goes back to the queue or is given up.
//! Every change is guarded by the lease token.

use std::time::Duration;

use diesel_async::AsyncConnection;
use uuid::Uuid;

use super::copy::CopyError;
use super::{policy, repair};
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, Claim, Failure, Finished, Switched};
use crate::db::run_failures::{self, NewRunFailure};
use crate::db::{restores, runs, transfer_parts};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, RunId};
use crate::retry;
use crate::step::{self, Step};
use crate::store::{ObjectKey, StoreRole, UploadId, Verdict};

/// Commits finished copies: replicas, files and the run's counters in one statement. Answers those that were
/// still ours. Of the others, those whose object was deleted meanwhile are let go of, so that the reaper can have
/// them and the run can end.
///
/// # Errors
/// Whatever the database meets; then nothing was changed and the call may be repeated.
pub async fn finish(context: &Context, copies: &[Finished]) -> Result<Vec<Switched>> {
    step::reached(Step::Finishing, "").await;
    let locals = context.stores.names_with(StoreRole::Local);
    let homes = context.stores.names_with(StoreRole::Cloud);
    let keeping = policy::of(context)?.keeping();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let switched = replicas::finish(conn, &locals, &homes, &keeping, copies).await?;
        for copy in copies {
            if !switched.iter().any(|row| row.object_id == copy.object_id && row.store == copy.store) {
                replicas::release(conn, copy.token, copy.object_id, &copy.store, None, Duration::ZERO)
                    .await?;
            }
        }
        Ok(switched)
    })
    .await
}

/// What became of a failed copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It will be tried again.
    Queued {
        /// Tries so far.
        attempts: i32,
    },
    /// It was given up; the run's failures say why.
    GivenUp {
        /// Tries in all.
        attempts: i32,
    },
    /// Somebody else has it now.
    NotOurs,
}

/// Records a failed try of one copy in one transaction, with its run's counter and failure row, if it is part of one,
/// when it is given up. A source that turned out missing or corrupt is marked `lost`.
///
/// # Errors
/// Whatever the database meets; then nothing was changed.
pub async fn fail(
    context: &Context,
    claim: &Claim,
    token: LeaseToken,
    run: Option<RunId>,
    error: &CopyError,
) -> Result<Outcome> {
    let tiering = &context.config.tiering;
    let text = error.to_string();
    let text = text.as_str();
    let attempts = u32::try_from(claim.attempts).unwrap_or(0);
    let mut failure = Failure {
        error: text,
        give_up: is_permanent(error),
        max_attempts: i32::try_from(tiering.max_attempts).unwrap_or(i32::MAX),
        delay: pause(error, attempts, tiering.backoff_initial, tiering.backoff_cap),
    };
    step::reached(Step::Failing, &claim.key).await;
    let homes = context.stores.names_with(StoreRole::Cloud);
    let homes = homes.as_slice();
    let mut conn = context.db.conn().await?;
    let outcome = conn
        .transaction(async move |conn| {
            if let CopyError::SourceMissing { store } | CopyError::SourceCorrupt { store, .. } = error {
                match replicas::mark_lost(conn, claim.object_id, store, homes, text, None).await? {
                    Some(0) => repair::tell_nothing_left(claim.object_id, &claim.key),
                    // The next try reads from another one. Where nothing was there to be marked, the source was freed or
                    // moved since the copy was claimed, and the next try asks where the bytes are now.
                    Some(_) | None => failure.give_up = false,
                }
            }
            if let CopyError::SourceArchived { store } = error {
                // Not read again before it is restored.
                restores::note_class(conn, claim.object_id, store, Some("GLACIER")).await?;
            }
            let changed = replicas::fail(conn, claim.object_id, &claim.store, token, &failure).await?;
            let Some((state, attempts)) = changed else { return Ok::<_, Error>(Outcome::NotOurs) };
            if state != ReplicaState::Failed {
                return Ok(Outcome::Queued { attempts });
            }
            if let Some(run) = run {
                let row = NewRunFailure {
                    id: Uuid::now_v7(),
                    run_id: run,
                    object_id: claim.object_id,
                    store: &claim.store,
                    attempts,
                    error: text,
                };
                run_failures::insert(conn, &[row]).await?;
                runs::count(conn, run, 0, 1, 0).await?;
            }
            Ok(Outcome::GivenUp { attempts })
        })
        .await?;
    if matches!(outcome, Outcome::GivenUp { .. }) {
        abort_parts(context, claim).await;
    }
    Ok(outcome)
}

/// Whether trying again is pointless until somebody does something.
fn is_permanent(error: &CopyError) -> bool {
    match error {
        CopyError::SourceMissing { .. }
        | CopyError::SourceCorrupt { .. }
        | CopyError::SourceArchived { .. }
        | CopyError::NoSource
        | CopyError::Unusable(_) => true,
        CopyError::Store(error) => matches!(error.verdict(), Verdict::Permanent | Verdict::SourceMissing),
        // The destination held other bytes than were sent: the next try overwrites them.
        CopyError::Unproved(_)
        | CopyError::BadRead { .. }
        | CopyError::UploadForgotten(_)
        | CopyError::LeaseLost
        | CopyError::Database(_) => false,
    }
}

fn pause(error: &CopyError, attempts: u32, initial: Duration, cap: Duration) -> Duration {
    let backoff = retry::delay(attempts, initial, cap);
    match error {
        CopyError::Store(error) => backoff.max(error.retry_after().unwrap_or_default().min(cap)),
        _ => backoff,
    }
}

/// Gives a copy back without counting a try.
///
/// # Errors
/// Whatever the database meets; the lease then runs out by itself.
pub async fn release(
    context: &Context,
    token: LeaseToken,
    claim: &Claim,
    error: Option<&str>,
    delay: Duration,
) -> Result<()> {
    let mut conn = context.db.conn().await?;
    replicas::release(&mut conn, token, claim.object_id, &claim.store, error, delay).await?;
    Ok(())
}

/// Frees the parts of a multipart upload that was given up. What cannot be freed now is logged, and the store's
/// own rule for unfinished uploads takes it.
async fn abort_parts(context: &Context, claim: &Claim) {
    let object = claim.object_id;
    let outcome = async {
        let mut conn = context.db.conn().await?;
        let upload = replicas::given_up_multipart(&mut conn, object, &claim.store).await?;
        let (Some(upload), Some(store), Ok(key)) =
            (upload, context.stores.get(&claim.store), ObjectKey::parse(&claim.key))
        else {
            return Ok(());
        };
        store.abort_multipart(&key, &UploadId::new(upload)).await?;
        transfer_parts::delete(&mut conn, object, &claim.store).await?;
        replicas::forget_multipart(&mut conn, object, &claim.store).await
    };
    if let Err(error) = outcome.await {
        let error: Error = error;
        tracing::warn!(target: "nightferry::sync", %object, %error, "the parts of a given-up copy could not be freed");
    }
}
