//! The identity of each store: the UUID in the marker object of its bucket must be the one that the database recorded
//! for the store. Two stores with one bucket, a bucket exchanged in the settings and an emptied store are detected by
//! it, and nothing is deleted that touches such a store or relies on it.
//!
//! A bucket that is used first gets its marker here. The row comes first, so all processes write the same UUID; a row
//! whose marker was never seen belongs to a process that has not written it yet, or died before.

use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::store_identities::{self, Place, Recorded};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;
use crate::store::{Store, StoreRole};
use crate::stores::Identity;

/// Timeout of a check.
const DEADLINE: Duration = Duration::from_secs(5);
/// Maximum age of a proof that a deletion relies on. Usually it is renewed earlier, at every `health.interval`.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Maximum number of steps until the identity of a store is known: another process may intervene.
const STEPS: u32 = 6;

/// Why the versioning of a local bucket is reported.
pub const KEEPS_VERSIONS: &str = "its bucket keeps versions: deletions free no space, neither those of evicted copies \
    nor those of deleted files, until a lifecycle rule of the bucket expires old versions";

/// Logs a warning if a local bucket keeps versions. A store that does not tell is not reported.
pub async fn warn_of_versions(context: &Context) {
    for store in context.stores.with_role(StoreRole::Local) {
        if !context.stores.health().responds(store.name().as_str()) {
            continue;
        }
        let versions = tokio::time::timeout(DEADLINE, store.keeps_versions()).await;
        if matches!(versions, Ok(Ok(true))) {
            tracing::warn!("store {}: {KEEPS_VERSIONS}", store.name());
        }
    }
}

/// Whether the store is the recorded one. The answer may be a few seconds old; without a recent one, the marker is
/// read. Any error means no: a caller that wants to delete must not.
pub async fn is_proven(context: &Context, store: &Store) -> bool {
    let max_age = (context.config.health.interval * 2).min(MAX_AGE);
    let fresh = context.stores.health().identities().fresh(store.name().as_str(), max_age);
    match fresh {
        Some(identity) => identity.is_proven(),
        None => check(context, store).await.is_proven(),
    }
}

/// Like [`is_proven`], by the name of the store. What is not found in any other bucket than the recorded one is not lost.
pub async fn is_proven_by_name(context: &Context, name: &str) -> bool {
    match context.stores.get(name) {
        Some(store) => is_proven(context, store).await,
        None => false,
    }
}

/// Returns an error if the store is known not to be the recorded one.
///
/// # Errors
/// [`Error::Conflict`] with the reason.
pub async fn require(context: &Context, store: &Store) -> Result<()> {
    let identity = check(context, store).await;
    match identity.reason().filter(|_| identity.is_in_doubt()) {
        Some(reason) => Err(Error::Conflict(format!(
            "The store {} may not be the one that the database knows: {reason}. Nothing is deleted from it.",
            store.name()
        ))),
        None => Ok(()),
    }
}

/// A store whose bucket was that of another configured store at the last check, and the other one.
pub fn sharing_a_bucket(context: &Context) -> Option<(String, String)> {
    context.stores.all().find_map(|store| {
        let name = store.name().as_str();
        match context.stores.health().identities().of(name) {
            Some(Identity::Shared { with }) if context.stores.get(&with).is_some() => {
                Some((name.to_owned(), with))
            }
            _ => None,
        }
    })
}

/// Returns an error if two configured stores had one bucket at the last check. No worker starts then, so a request would
/// never be carried out.
///
/// # Errors
/// [`Error::Conflict`] with the names of the stores.
pub fn require_distinct(context: &Context) -> Result<()> {
    match sharing_a_bucket(context) {
        Some((name, other)) => Err(Error::Conflict(format!(
            "The stores {other} and {name} have the same bucket, so no worker starts. Correct the endpoint or the \
             bucket of one of them: stores.{name}."
        ))),
        None => Ok(()),
    }
}

/// Checks all stores that respond, one after the other: of two stores with one bucket, the second must find the marker
/// of the first.
pub async fn check_all(context: &Context) {
    for store in context.stores.all() {
        if context.stores.health().responds(store.name().as_str()) {
            check(context, store).await;
        }
    }
}

/// Checks one store now. A bucket without a marker gets one if no identity is recorded for the store.
pub async fn check(context: &Context, store: &Store) -> Identity {
    let identity = match tokio::time::timeout(DEADLINE, look(context, store)).await {
        Ok(Ok(identity)) => identity,
        Ok(Err(error)) => Identity::Unknown(error.to_string()),
        Err(_) => Identity::Unknown(format!("there was no answer within {} s", DEADLINE.as_secs())),
    };
    note(context, store, &identity);
    identity
}

/// Checks all stores at every `health.interval`, until `shutdown`.
pub(super) async fn watch(context: &Context, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(context.config.health.interval) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = check_all(context) => {}
        }
    }
}

/// Accepts the bucket of a store as the right one: its marker is recorded; without a marker, it gets one. Returns the
/// identity, and whether anything had to be accepted.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if the bucket is that of another configured store; any error of the store.
pub async fn accept(
    context: &Context,
    name: &str,
    by: Option<UserId>,
    origin: &Origin,
) -> Result<(Identity, bool)> {
    let store = context.stores.get(name).ok_or(Error::NotFound(Noun::Store))?;
    let before = check(context, store).await;
    if before.is_proven() {
        return Ok((before, false));
    }
    let identity = store.identity().await?.unwrap_or_else(Uuid::now_v7);
    {
        let mut conn = context.db.conn().await?;
        conn.transaction(async move |conn| {
            let rows = store_identities::all(conn).await?;
            if let Some(other) = rows.iter().find(|row| row.identity == identity && row.store != name) {
                if context.stores.get(&other.store).is_some() {
                    return Err(Error::Conflict(format!(
                        "The bucket of the store {name} is also that of the store {}: give each its own bucket.",
                        other.store
                    )));
                }
                store_identities::forget(conn, &other.store).await?;
            }
            let recorded = rows.iter().find(|row| row.store == name).map(|row| row.identity);
            store_identities::forget(conn, name).await?;
            store_identities::record(conn, name, identity, place(store)).await?;
            let settings = store.settings();
            let detail = serde_json::json!({
                "before": recorded,
                "after": identity,
                "endpoint": &settings.endpoint,
                "bucket": &settings.bucket,
            });
            audit::record(conn, origin, by, "store.accept", ("store", name), detail).await
        })
        .await?;
    }
    Ok((check(context, store).await, true))
}

/// The next step on the way to the identity of a store.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is known.
    Known(Identity),
    /// It is the recorded one, which was never seen before.
    Mark(Uuid),
    /// Nothing is recorded: record this one.
    Record(Uuid),
    /// The recorded one has not been written yet.
    Write(Uuid),
    /// Another marker was written before the recorded one, which was never used.
    Drop(Uuid),
}

/// The next step, from what is recorded and the marker of the bucket.
fn next(rows: &[Recorded], store: &str, marker: Option<Uuid>) -> Step {
    let other = rows.iter().find(|row| Some(row.identity) == marker && row.store != store);
    let recorded = rows.iter().find(|row| row.store == store);
    match (other, recorded, marker) {
        (Some(other), _, _) => Step::Known(Identity::Shared { with: other.store.clone() }),
        (None, None, marker) => Step::Record(marker.unwrap_or_else(Uuid::now_v7)),
        (None, Some(row), None) if row.marked_at.is_none() => Step::Write(row.identity),
        (None, Some(row), None) => Step::Known(Identity::Missing { recorded: row.identity }),
        (None, Some(row), Some(found)) => match (row.identity == found, row.marked_at.is_some()) {
            (true, true) => Step::Known(Identity::Proven(found)),
            (true, false) => Step::Mark(found),
            (false, true) => Step::Known(Identity::Changed { recorded: row.identity, found }),
            (false, false) => Step::Drop(row.identity),
        },
    }
}

/// Takes steps until the identity of the store is known. The rows are read before the marker: once a row says that the
/// marker was seen, a missing one has been deleted.
async fn look(context: &Context, store: &Store) -> Result<Identity> {
    let name = store.name().as_str();
    for _ in 0..STEPS {
        let rows = store_identities::all(&mut *context.db.conn().await?).await?;
        let step = next(&rows, name, store.identity().await?);
        match step {
            Step::Known(identity) => return Ok(identity),
            Step::Write(id) => store.write_identity(id).await?,
            Step::Record(id) => {
                store_identities::record(&mut *context.db.conn().await?, name, id, place(store)).await?;
            }
            Step::Drop(id) => {
                store_identities::forget_unmarked(&mut *context.db.conn().await?, name, id).await?;
            }
            Step::Mark(id) => {
                store_identities::mark(&mut *context.db.conn().await?, name, id).await?;
                tracing::info!(store = name, identity = %id, "the identity of the store is recorded");
                return Ok(Identity::Proven(id));
            }
        }
    }
    Err(Error::Internal(format!("the identity of the store {name} keeps changing")))
}

fn place(store: &Store) -> Place<'_> {
    let settings = store.settings();
    Place { endpoint: &settings.endpoint, bucket: &settings.bucket }
}

/// Records what was seen, and logs a change.
fn note(context: &Context, store: &Store, identity: &Identity) {
    let name = store.name().as_str();
    let before = context.stores.health().identities().saw(name, identity);
    let reason = identity.reason();
    match (identity, reason) {
        (Identity::Unknown(_), reason) => {
            tracing::debug!(store = name, reason, "the identity of a store could not be checked");
        }
        (_, None) if before.as_ref().is_some_and(Identity::is_in_doubt) => {
            tracing::info!(store = name, "the store is the recorded one again");
        }
        (identity, Some(reason)) if before.as_ref() != Some(identity) => tracing::error!(
            target: "nightferry::sync",
            store = name,
            reason,
            "a store may not be the one that the database knows: nothing is deleted from it, nor anywhere \
             else because of its copies. Correct its settings, or accept it with `nightferry store accept`"
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn row(store: &str, identity: Uuid, is_marked: bool) -> Recorded {
        Recorded { store: store.to_owned(), identity, marked_at: is_marked.then(Utc::now) }
    }

    #[test]
    fn a_recorded_marker_is_a_proof_and_any_other_is_a_doubt() {
        let rows = [row("minio", A, true)];
        assert_eq!(next(&rows, "minio", Some(A)), Step::Known(Identity::Proven(A)));
        assert_eq!(next(&rows, "minio", None), Step::Known(Identity::Missing { recorded: A }));
        let changed = Identity::Changed { recorded: A, found: B };
        assert_eq!(next(&rows, "minio", Some(B)), Step::Known(changed));
    }

    #[test]
    fn the_marker_of_another_store_is_never_accepted() {
        let shared = || Step::Known(Identity::Shared { with: "minio".to_owned() });
        assert_eq!(next(&[row("minio", A, true)], "s3", Some(A)), shared());
        assert_eq!(next(&[row("minio", A, true), row("s3", B, true)], "s3", Some(A)), shared());
        assert_eq!(next(&[row("minio", A, false), row("s3", B, false)], "s3", Some(A)), shared());
    }

    #[test]
    fn a_new_bucket_gets_the_recorded_marker_and_an_existing_marker_is_recorded() {
        assert!(matches!(next(&[], "minio", None), Step::Record(_)));
        assert_eq!(next(&[], "minio", Some(A)), Step::Record(A));
        let begun = [row("minio", A, false)];
        assert_eq!(next(&begun, "minio", None), Step::Write(A));
        assert_eq!(next(&begun, "minio", Some(A)), Step::Mark(A));
        assert_eq!(next(&begun, "minio", Some(B)), Step::Drop(A));
    }
}
