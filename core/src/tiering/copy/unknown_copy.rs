//! The source of a copy is missing: after a restored backup, the destination or another store may have copies that the
//! database does not know. An intact one is used instead of marking the object as lost.

use crate::context::Context;
use crate::db::replicas::{self, Claim};
use crate::object::adopt::{self, Effort};
use crate::object::identity;
use crate::object::verify::{self, Expected, Intact};
use crate::store::{ObjectKey, Store, StoreError, StoreRole};
use crate::tiering::db_outage::retry_on_db_outage;

use super::{Copied, CopyError, object_of};

/// Searches the destination of a claimed copy, then all other stores, after the copy failed with `error`, because
/// `source` has no intact copy or no store has one. An intact object in the destination is the copy; one in another
/// store becomes a source of the next attempt.
///
/// # Errors
/// `error` if nothing was found. Any database error, and any error of the destination.
pub(super) async fn seek(
    context: &Context,
    claim: &Claim,
    source: Option<&str>,
    error: CopyError,
) -> Result<Copied, CopyError> {
    let (key, expected) = object_of(claim)?;
    if let Some(destination) = context.stores.get(&claim.store)
        && identity::is_proven(context, destination).await
        && let Some(found) = find(destination, &key, expected).await?
    {
        if let Some(source) = source {
            lose(context, claim, source, &error).await?;
        }
        metrics::counter!("nightferry_copies_adopted_total", "store" => claim.store.clone()).increment(1);
        tracing::warn!(target: "nightferry::sync", object = %claim.object_id, store = claim.store, %error, "the \
            destination already has an intact copy that the database did not know");
        return Ok(Copied { etag: found.etag, envelope: found.envelope });
    }
    let missing: Vec<&str> = source.into_iter().collect();
    let adopted = Box::pin(adopt::adopt(context, claim.object_id, &missing, Effort::Read)).await?;
    match (adopted.stores.into_iter().next(), error) {
        // Not permanent: the next attempt reads the copy that was found.
        (Some(store), CopyError::NoSource) => {
            Err(CopyError::BadRead { store, detail: "its copy was not known until now".to_owned() })
        }
        (_, error) => Err(error),
    }
}

/// Searches a store for an intact copy. A denial counts as not found: without the permission to list, S3 denies access to
/// keys that do not exist.
async fn find(store: &Store, key: &ObjectKey, expected: Expected) -> Result<Option<Intact>, StoreError> {
    match verify::find_intact(store, key, expected, true).await {
        Err(error) if error.is_denied() => Ok(None),
        found => found,
    }
}

/// Marks the copy in the source as lost, if the source is the recorded store. No report: the copy in the destination is committed next, and if that fails,
/// the next attempt finds it again.
async fn lose(context: &Context, claim: &Claim, source: &str, error: &CopyError) -> Result<(), CopyError> {
    if !identity::is_proven_by_name(context, source).await {
        return Ok(());
    }
    let clouds = context.stores.names_with(StoreRole::Cloud);
    let text = error.to_string();
    retry_on_db_outage(async || {
        replicas::mark_lost(&mut *context.db.conn().await?, claim.object_id, source, &clouds, &text, None)
            .await
    })
    .await?;
    Ok(())
}
