//! Commits copies: finished and verified ones become `present`, failed ones return to the queue or fail permanently.
//! Every change is guarded by the lease token.

use std::time::Duration;

use diesel_async::AsyncConnection;

use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, Claim, Failure, Finished, Switched};
use crate::db::{restores, run_failures, runs, transfer_parts};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, RunId};
use crate::object::identity;
use crate::retry;
use crate::step::{self, Step};
use crate::store::{ObjectKey, StoreRole, UploadId, Verdict};
use crate::tiering::copy::CopyError;
use crate::tiering::{policy, repair};

/// Commits finished copies: replicas, files and counters of the run in one statement. Returns those that were still
/// ours. Of the others, those whose object was deleted are released, so that the reaper can take them and the run can
/// end.
///
/// # Errors
/// Any database error; then nothing was changed and the call can be repeated.
pub async fn finish(context: &Context, copies: &[Finished]) -> Result<Vec<Switched>> {
    step::reached(Step::Finishing, "").await;
    let locals = context.stores.names_with(StoreRole::Local);
    let primary_stores = context.stores.names_with(StoreRole::Cloud);
    let keeping = policy::of(context)?.keeping();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let switched = replicas::finish(conn, &locals, &primary_stores, &keeping, copies).await?;
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

/// The result of a failed copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The copy will be retried.
    Queued {
        /// Attempts so far.
        attempts: i32,
    },
    /// The copy failed permanently; the failures of the run contain the reason.
    GivenUp {
        /// Number of attempts.
        attempts: i32,
    },
    /// Another worker holds it now.
    NotOurs,
}

/// Records a failed attempt of one copy in one transaction; if it failed permanently and is part of a run, with the
/// counter and the failure row of the run. A missing or corrupt source is marked `lost`, if its store is proven to be the
/// recorded one.
///
/// # Errors
/// Any database error; then nothing was changed.
pub async fn fail(
    context: &Context,
    claim: &Claim,
    token: LeaseToken,
    run: Option<RunId>,
    error: &CopyError,
) -> Result<Outcome> {
    let tiering = &context.config.tiering;
    let (lost, text) = loss(context, error).await;
    let text = text.as_str();
    let attempts = u32::try_from(claim.attempts).unwrap_or(0);
    let mut failure = Failure {
        error: text,
        give_up: is_permanent(error) && lost != Loss::InDoubt,
        max_attempts: i32::try_from(tiering.max_attempts).unwrap_or(i32::MAX),
        delay: pause(error, attempts, tiering.backoff_initial, tiering.backoff_cap),
    };
    step::reached(Step::Failing, &claim.key).await;
    let primary_stores = context.stores.names_with(StoreRole::Cloud);
    let primary_stores = primary_stores.as_slice();
    let mut conn = context.db.conn().await?;
    let outcome = conn
        .transaction(async move |conn| {
            if let Loss::Of(store) = lost {
                match replicas::mark_lost(conn, claim.object_id, store, primary_stores, text, None).await? {
                    Some(0) => repair::report_unrecoverable(claim.object_id, &claim.key),
                    // The next attempt reads from another source. If there was nothing to mark, the source was evicted
                    // or moved since the claim, and the next attempt determines the current location.
                    Some(_) | None => failure.give_up = false,
                }
            }
            if let CopyError::SourceArchived { store } = error {
                // Not checked again until it is restored.
                restores::record_class(conn, claim.object_id, store, Some("GLACIER")).await?;
            }
            let changed = replicas::fail(conn, claim.object_id, &claim.store, token, &failure).await?;
            let Some((state, attempts)) = changed else { return Ok::<_, Error>(Outcome::NotOurs) };
            if state != ReplicaState::Failed {
                return Ok(Outcome::Queued { attempts });
            }
            if let Some(run) = run {
                run_failures::insert(conn, run, claim.object_id, &claim.store, attempts, text).await?;
                runs::count(conn, run, 0, 1, 0).await?;
            }
            Ok(Outcome::GivenUp { attempts })
        })
        .await?;
    drop(conn);
    if matches!(outcome, Outcome::GivenUp { .. }) {
        abort_parts(context, claim).await;
    }
    Ok(outcome)
}

/// Which copy a failure shows to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss<'a> {
    /// None.
    No,
    /// The one in this store.
    Of(&'a str),
    /// None yet: the store without it may not be the recorded one.
    InDoubt,
}

/// Which copy is lost according to an error, and the text of the error.
async fn loss<'a>(context: &Context, error: &'a CopyError) -> (Loss<'a>, String) {
    let text = error.to_string();
    match error {
        CopyError::SourceMissing { store } | CopyError::SourceCorrupt { store, .. } => {
            if identity::is_proven_by_name(context, store).await {
                (Loss::Of(store), text)
            } else {
                (
                    Loss::InDoubt,
                    format!("{text}; the store {store} may not be the one that the database knows"),
                )
            }
        }
        _ => (Loss::No, text),
    }
}

/// Whether retries are pointless without a change.
fn is_permanent(error: &CopyError) -> bool {
    match error {
        CopyError::SourceMissing { .. }
        | CopyError::SourceCorrupt { .. }
        | CopyError::SourceArchived { .. }
        | CopyError::NoSource
        | CopyError::Unusable(_) => true,
        CopyError::Store(error) => matches!(error.verdict(), Verdict::Permanent | Verdict::SourceMissing),
        // The destination had other content than was sent: the next attempt overwrites it.
        CopyError::Unverified(_)
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

/// Releases a copy without counting an attempt.
///
/// # Errors
/// Any database error; the lease then expires.
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

/// Aborts an abandoned multipart upload. If that fails, it is logged, and the store's lifecycle rule for unfinished
/// uploads removes it.
async fn abort_parts(context: &Context, claim: &Claim) {
    let object = claim.object_id;
    let outcome = async {
        let upload = replicas::failed_multipart(&mut *context.db.conn().await?, object, &claim.store).await?;
        let (Some(upload), Some(store), Ok(key)) =
            (upload, context.stores.get(&claim.store), ObjectKey::parse(&claim.key))
        else {
            return Ok(());
        };
        store.abort_multipart(&key, &UploadId::new(upload)).await?;
        let mut conn = context.db.conn().await?;
        transfer_parts::delete(&mut conn, object, &claim.store).await?;
        replicas::delete_multipart(&mut conn, object, &claim.store).await
    };
    if let Err(error) = outcome.await {
        let error: Error = error;
        tracing::warn!(target: "nightferry::sync", %object, %error, "cannot abort the multipart upload of \
            a failed copy");
    }
}
