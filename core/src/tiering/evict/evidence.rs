//! Evidence before a deletion. A row in state `present` is not proof: the object may have been deleted, its server may
//! be down, or the bucket may have been replaced. A copy is deleted only after a HEAD request for another copy, in a
//! configured and healthy store whose identity is proven, returned the recorded size and checksum. Without a comparable
//! checksum, the ETag of the copy that was verified suffices, but only for `tiering.evidence_max_age`: then the copy is
//! read again ([`super::read_back`]). So is one in a store that was seen returning false checksums.

use std::collections::BTreeSet;

use crate::context::Context;
use crate::db::replicas::{CheckedEviction, OtherCopy};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::object::identity;
use crate::object::verify::{self, Expected, Unverified};
use crate::store::{ObjectKey, Store, StoreError};

use crate::tiering::repair;

/// Result of checking the other copies of an object.
#[derive(Debug)]
pub(super) enum Evidence {
    /// This copy was found intact just now.
    Seen(OtherCopy),
    /// A copy exists, and must be read before it counts.
    Unread(Unread),
    /// None of them is intact; the findings are recorded.
    Absent,
    /// A copy could not be checked and may be intact.
    Unknown(Option<StoreError>),
}

/// A copy that a HEAD request does not prove.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    /// The copy.
    pub(super) other: OtherCopy,
    /// The ETag of the object now.
    pub(super) etag: String,
}

/// The stores among these whose responses can be relied on now: configured, healthy, and those that the database knows.
/// For many copies at once, so that an identity is checked once.
pub(super) async fn usable(context: &Context, names: BTreeSet<String>) -> Vec<&Store> {
    let mut usable = Vec::with_capacity(names.len());
    for name in names {
        let healthy = context.stores.get(&name).filter(|_| context.stores.health().is_healthy(&name));
        let Some(store) = healthy else { continue };
        if identity::is_proven(context, store).await {
            usable.push(store);
        }
    }
    usable
}

/// Searches for an intact copy of an object in the `usable` stores; `read` is a copy that was read just now. A copy
/// that is missing or corrupt is marked as lost, so that it no longer permits a deletion and is repaired.
///
/// # Errors
/// Any database error.
pub(super) async fn seek(
    context: &Context,
    usable: &[&Store],
    key: &ObjectKey,
    facts: &CheckedEviction,
    read: Option<&Unread>,
) -> Result<Evidence> {
    let health = context.stores.health();
    let (mut evidence, mut unread) = (Evidence::Absent, None);
    for other in &facts.others {
        let name = other.store.as_str();
        // Its health may have changed since the stores were selected.
        let usable = usable.iter().find(|store| store.name().as_str() == name && health.is_healthy(name));
        let Some(store) = usable.copied() else {
            evidence = Evidence::Unknown(None);
            continue;
        };
        let form = expected(facts)?.form(other.envelope.clone());
        match verify::unproved_etag(store, key, &form).await {
            Ok(etag) => {
                health.answered(name, context.clock.now(), None);
                let Some(etag) = etag else { return Ok(Evidence::Seen(other.clone())) };
                let was_read = read.is_some_and(|read| read.other.store == name && read.etag == etag);
                // A store that was seen returning false checksums may return a false ETag too.
                let is_verified_one =
                    !other.is_old && store.trusts_head() && other.etag.as_ref() == Some(&etag);
                if was_read || is_verified_one {
                    return Ok(Evidence::Seen(other.clone()));
                }
                unread = unread.or_else(|| Some(Unread { other: other.clone(), etag }));
            }
            Err(Unverified::Store(error)) => {
                health.failed(&error, context.clock.now());
                evidence = Evidence::Unknown(Some(error));
            }
            Err(found @ (Unverified::Missing(_) | Unverified::Wrong { .. })) => {
                record_loss(context, facts.object_id, key, other, &found).await?;
            }
        }
    }
    Ok(unread.map_or(evidence, Evidence::Unread))
}

/// Whether the copy in `store` that was to be deleted exists and is intact.
///
/// # Errors
/// The error of the store if the request failed.
pub(super) async fn is_whole(store: &Store, key: &ObjectKey, facts: &CheckedEviction) -> Result<bool> {
    let form = expected(facts)?.form(facts.envelope.clone());
    match verify::verify_by_head(store, key, &form, None).await {
        Ok(()) => Ok(true),
        Err(Unverified::Store(error)) => Err(error.into()),
        Err(Unverified::Missing(_) | Unverified::Wrong { .. }) => Ok(false),
    }
}

/// The recorded content.
pub(super) fn expected(facts: &CheckedEviction) -> Result<Expected> {
    let (sha256, crc64nvme) = (facts.sha256.as_deref(), facts.crc64nvme.as_deref());
    Expected::recorded(facts.object_id, facts.size, sha256, crc64nvme)
}

/// Marks a copy that was not found, or found changed, as lost, unless it was verified again in the meantime.
pub(super) async fn record_loss(
    context: &Context,
    object: ObjectId,
    key: &ObjectKey,
    other: &OtherCopy,
    found: &Unverified,
) -> Result<()> {
    let detail = match found {
        Unverified::Missing(_) => "it is missing".to_owned(),
        other => other.to_string(),
    };
    let store = other.store.as_str();
    let seen = Some(other.verified_at);
    let lost = repair::mark_lost(context, object, key.as_str(), store, &detail, seen).await?;
    if lost.is_some() {
        metrics::counter!("nightferry_missing_evidence_total", "store" => store.to_owned()).increment(1);
        tracing::error!(target: "nightferry::sync", %object, store, error = detail, "the database lists a copy as \
            verified, but it was not found when another copy was to be deleted: the other copy is kept, and \
            the missing one is copied again. Check that the bucket of the store is the right one");
    }
    Ok(())
}
