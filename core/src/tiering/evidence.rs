//! Evidence before a deletion. A row that says `present` is a claim: the object may have vanished, its server may be down,
//! the bucket may be another one. A copy is deleted only after a HEAD of another copy, in a configured and healthy store,
//! showed the recorded size and checksum (or the entity tag of the copy that was verified).

use crate::checksum::Crc64Nvme;
use crate::context::Context;
use crate::db::objects::Object;
use crate::db::replicas::{self, Replica};
use crate::db::{objects, unsigned};
use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::object::verify::{self, Expected, Form, Unproved};
use crate::store::{ObjectKey, Store, StoreError, StoreRole};

use super::repair;

/// What a look at the other copies of an object showed.
#[derive(Debug)]
pub(super) enum Evidence {
    /// One of them was seen whole, just now.
    Seen,
    /// None of them is whole: what was found is recorded.
    Absent,
    /// One of them could not be looked at; it may be whole.
    Unknown(Option<StoreError>),
}

/// Looks for a whole copy of an object in one of these stores. A copy that turns out to be missing or wrong is marked as
/// lost, so that it is no reason for a deletion any more and is made again.
///
/// # Errors
/// Any database error.
pub(super) async fn seek(context: &Context, object: ObjectId, stores: &[String]) -> Result<Evidence> {
    let (facts, replicas) = {
        let mut conn = context.db.conn().await?;
        let facts = objects::find(&mut conn, object).await?.ok_or(Error::NotFound("object"))?;
        (facts, replicas::of_objects(&mut conn, &[object]).await?)
    };
    let key = ObjectKey::parse(&facts.key)
        .map_err(|error| Error::Internal(format!("object key in the database: {error}")))?;
    let mut evidence = Evidence::Absent;
    for replica in replicas.iter().filter(|replica| stores.contains(&replica.store)) {
        let Some(store) = usable(context, &replica.store) else {
            evidence = Evidence::Unknown(None);
            continue;
        };
        match verify::prove_untouched(store, &key, &form(&facts, replica)?, replica.etag.as_deref()).await {
            Ok(()) => {
                context.stores.health().answered(&replica.store, context.clock.now(), None);
                return Ok(Evidence::Seen);
            }
            Err(Unproved::Store(error)) => {
                context.stores.health().failed(&error, context.clock.now());
                evidence = Evidence::Unknown(Some(error));
            }
            Err(found @ (Unproved::Missing(_) | Unproved::Wrong { .. })) => {
                record_loss(context, &facts, replica, &found).await?;
            }
        }
    }
    Ok(evidence)
}

/// Whether the copy of an object in `store` is there, whole.
///
/// # Errors
/// Any database error; that of the store, if it could not be asked.
pub(super) async fn is_whole(context: &Context, store: &Store, object: ObjectId) -> Result<bool> {
    let (facts, seal) = {
        let mut conn = context.db.conn().await?;
        let facts = objects::find(&mut conn, object).await?.ok_or(Error::NotFound("object"))?;
        (facts, replicas::seal_of(&mut conn, object, store.name().as_str()).await?)
    };
    let key = ObjectKey::parse(&facts.key)
        .map_err(|error| Error::Internal(format!("object key in the database: {error}")))?;
    let expected = expected(&facts)?;
    let form = match seal {
        None => expected.plain(),
        Some(seal) => expected.sealed(seal, None),
    };
    match verify::prove_by_asking(store, &key, &form, None).await {
        Ok(()) => Ok(true),
        Err(Unproved::Store(error)) => Err(error.into()),
        Err(Unproved::Missing(_) | Unproved::Wrong { .. }) => Ok(false),
    }
}

/// A store whose answer counts now: configured, and nothing speaks against it.
fn usable<'c>(context: &'c Context, name: &str) -> Option<&'c Store> {
    context.stores.get(name).filter(|_| context.stores.health().is_healthy(name))
}

fn expected(facts: &Object) -> Result<Expected> {
    let unusable = || Error::Internal(format!("object {} has no usable checksums", facts.id));
    let crc: [u8; 8] = facts.crc64nvme.as_deref().unwrap_or(&[]).try_into().map_err(|_| unusable())?;
    Ok(Expected {
        size: unsigned(facts.size.unwrap_or(0)),
        sha256: facts.sha256.as_deref().unwrap_or(&[]).try_into().map_err(|_| unusable())?,
        crc64nvme: Crc64Nvme::from_u64(u64::from_be_bytes(crc)),
    })
}

fn form(facts: &Object, replica: &Replica) -> Result<Form> {
    let expected = expected(facts)?;
    Ok(match replica.seal() {
        None => expected.plain(),
        Some(seal) => expected.sealed(seal, None),
    })
}

/// Marks a copy as lost that a look did not find, or found changed, unless it was verified again meanwhile.
async fn record_loss(context: &Context, facts: &Object, replica: &Replica, found: &Unproved) -> Result<()> {
    let clouds = context.stores.names_with(StoreRole::Cloud);
    let detail = match found {
        Unproved::Missing(_) => "it is missing".to_owned(),
        other => other.to_string(),
    };
    let error = format!("the copy in store {} is lost: {detail}", replica.store);
    let mut conn = context.db.conn().await?;
    let left = replicas::mark_lost(&mut conn, facts.id, &replica.store, &clouds, &error, replica.verified_at)
        .await?;
    if left.is_some() {
        metrics::counter!("nightferry_missing_evidence_total", "store" => replica.store.clone()).increment(1);
        tracing::error!(target: "nightferry::sync", object = %facts.id, store = replica.store, error, "a copy that the database calls verified was not found when another one was to be deleted: that one stays, and this one is made again. Is the store's bucket the right one?");
    }
    if left == Some(0) {
        repair::tell_nothing_left(facts.id, &facts.key);
    }
    Ok(())
}
