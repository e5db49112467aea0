//! Evidence before a deletion. A row in state `present` is not proof: the object may have been deleted, its server may
//! be down, or the bucket may have been replaced. A copy is deleted only after a HEAD request for another copy, in a
//! configured and healthy store whose identity is proven, returned the recorded size and checksum (or the ETag of the
//! copy that was verified).

use crate::context::Context;
use crate::db::objects::Object;
use crate::db::replicas::{self, Replica};
use crate::db::{objects, unsigned};
use crate::error::{Error, Noun, Result};
use crate::ids::ObjectId;
use crate::object::identity;
use crate::object::verify::{self, Expected, Unverified};
use crate::store::{ObjectKey, Store, StoreError};

use crate::tiering::repair;

/// Result of checking the other copies of an object.
#[derive(Debug)]
pub(in crate::tiering) enum Evidence {
    /// A copy was found intact just now.
    Seen,
    /// None of them is intact; the findings are recorded.
    Absent,
    /// A copy could not be checked and may be intact.
    Unknown(Option<StoreError>),
}

/// Searches these stores for an intact copy of an object. A copy that is missing or corrupt is marked as lost, so that
/// it no longer permits a deletion and is repaired.
///
/// # Errors
/// Any database error.
pub(in crate::tiering) async fn seek(
    context: &Context,
    object: ObjectId,
    stores: &[String],
) -> Result<Evidence> {
    let (facts, replicas) = {
        let mut conn = context.db.conn().await?;
        let facts = objects::find(&mut conn, object).await?.ok_or(Error::NotFound(Noun::Object))?;
        (facts, replicas::of_objects(&mut conn, &[object]).await?)
    };
    let key = ObjectKey::parse(&facts.key)?;
    let mut evidence = Evidence::Absent;
    for replica in replicas.iter().filter(|replica| stores.contains(&replica.store)) {
        let Some(store) = usable(context, &replica.store).await else {
            evidence = Evidence::Unknown(None);
            continue;
        };
        let form = expected(&facts)?.form(replica.seal());
        match verify::verify_unchanged(store, &key, &form, replica.etag.as_deref()).await {
            Ok(()) => {
                context.stores.health().answered(&replica.store, context.clock.now(), None);
                return Ok(Evidence::Seen);
            }
            Err(Unverified::Store(error)) => {
                context.stores.health().failed(&error, context.clock.now());
                evidence = Evidence::Unknown(Some(error));
            }
            Err(found @ (Unverified::Missing(_) | Unverified::Wrong { .. })) => {
                record_loss(context, &facts, replica, &found).await?;
            }
        }
    }
    Ok(evidence)
}

/// Whether the copy of an object in `store` exists and is intact.
///
/// # Errors
/// Any database error; the error of the store if the request failed.
pub(in crate::tiering) async fn is_whole(context: &Context, store: &Store, object: ObjectId) -> Result<bool> {
    let (facts, seal) = {
        let mut conn = context.db.conn().await?;
        let facts = objects::find(&mut conn, object).await?.ok_or(Error::NotFound(Noun::Object))?;
        (facts, replicas::envelope_of(&mut conn, object, store.name().as_str()).await?)
    };
    let key = ObjectKey::parse(&facts.key)?;
    match verify::verify_by_head(store, &key, &expected(&facts)?.form(seal), None).await {
        Ok(()) => Ok(true),
        Err(Unverified::Store(error)) => Err(error.into()),
        Err(Unverified::Missing(_) | Unverified::Wrong { .. }) => Ok(false),
    }
}

/// A store whose responses can be relied on now: configured, healthy, and the one that the database knows.
async fn usable<'c>(context: &'c Context, name: &str) -> Option<&'c Store> {
    let store = context.stores.get(name).filter(|_| context.stores.health().is_healthy(name))?;
    identity::is_proven(context, store).await.then_some(store)
}

fn expected(facts: &Object) -> Result<Expected> {
    let unusable = || Error::Internal(format!("object {} has no usable checksums", facts.id));
    Ok(Expected {
        size: unsigned(facts.size.unwrap_or(0)),
        sha256: facts.sha256.as_deref().unwrap_or(&[]).try_into().map_err(|_| unusable())?,
        crc64nvme: facts.crc64nvme.as_deref().unwrap_or(&[]).try_into().map_err(|_| unusable())?,
    })
}

/// Marks a copy that was not found, or found changed, as lost, unless it was verified again in the meantime.
async fn record_loss(context: &Context, facts: &Object, replica: &Replica, found: &Unverified) -> Result<()> {
    let detail = match found {
        Unverified::Missing(_) => "it is missing".to_owned(),
        other => other.to_string(),
    };
    let seen = replica.verified_at;
    if repair::mark_lost(context, facts.id, &facts.key, &replica.store, &detail, seen).await?.is_some() {
        metrics::counter!("nightferry_missing_evidence_total", "store" => replica.store.clone()).increment(1);
        tracing::error!(target: "nightferry::sync", object = %facts.id, store = replica.store, error = detail, "the \
            database lists a copy as verified, but it was not found when another copy was to be deleted: \
            the other copy is kept, and the missing one is copied again. Check that the bucket of the store \
            is the right one");
    }
    Ok(())
}
