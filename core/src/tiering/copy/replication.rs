//! Local replication (`tiering.local_replicas`): an upload is written to one store, and a worker copies it to the
//! others. The copies are queued with the upload; a pass at intervals finds objects that lack copies for other reasons.

use diesel_async::AsyncPgConnection;
use tokio_util::sync::CancellationToken;

use crate::config::FreeLocalAfter;
use crate::context::Context;
use crate::db::listen;
use crate::db::policy::Policy;
use crate::db::replicas::{self, Lacking};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::object::store_choice;
use crate::tiering::lease::once_every;
use crate::tiering::policy;

/// Objects examined in one statement.
const BATCH: i64 = 2_000;

/// Queues the other copies of an upload to `store`. Part of the upload's transaction.
pub(crate) async fn of_upload(
    context: &Context,
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
) -> Result<()> {
    let more = context.config.tiering.local_replicas.saturating_sub(1);
    if more == 0 {
        return Ok(());
    }
    let stores = store_choice::locals(context, conn).await?;
    let others = stores.into_iter().map(|other| other.name().as_str()).filter(|other| *other != store);
    let copies: Vec<(ObjectId, &str)> = others.take(more).map(|other| (object, other)).collect();
    if replicas::queue_local_copies(conn, &copies).await? > 0 {
        listen::notify(conn, listen::RUNS, "replication").await?;
    }
    Ok(())
}

/// Queues missing local copies, immediately after a change of the configuration or of the drained stores, and otherwise
/// every `policy.review_every`, in one worker. Synced files that will be evicted after some time are excluded. Returns
/// the number of copies.
///
/// # Errors
/// Any database error; the next pass starts again.
pub async fn pass(context: &Context, stop: &CancellationToken) -> Result<usize> {
    let wanted = context.config.tiering.local_replicas;
    if context.stores.names_with(crate::store::StoreRole::Local).len() < 2 {
        return Ok(0);
    }
    let mut conn = context.db.conn().await?;
    let policy = policy::in_force(context, &mut conn).await?;
    drop(conn);
    let lease = format!("replication {wanted} {}", policy::fingerprint_of(&context.config, &policy));
    let every = context.config.policy.review_every;
    let work = queue_missing(context, stop, &policy, wanted);
    Ok(once_every(context, &lease, every, stop, work).await?.unwrap_or(0))
}

async fn queue_missing(
    context: &Context,
    stop: &CancellationToken,
    policy: &Policy<'_>,
    wanted: usize,
) -> Result<usize> {
    let conn = &mut *context.db.conn().await?;
    let stores: Vec<&str> =
        store_choice::locals(context, conn).await?.into_iter().map(|store| store.name().as_str()).collect();
    let staying = policy.evictions().into_iter().filter(|(_, after)| *after == FreeLocalAfter::Never);
    let staying: Vec<&str> = staying.map(|(rule, _)| rule).collect();
    let (mut queued, mut after) = (0, ObjectId(uuid::Uuid::nil()));
    while !stop.is_cancelled() {
        let places = replicas::local_places(conn, &policy.locals, &staying, after, BATCH).await?;
        let Some(last) = places.last() else { break };
        after = last.object_id;
        let ids: Vec<ObjectId> = places.iter().map(|place| place.object_id).collect();
        replicas::mark_evictable(conn, &policy.locals, &policy.clouds, &ids).await?;
        let missing: Vec<(ObjectId, &str)> =
            places.iter().flat_map(|place| missing_of(place, &stores, wanted)).collect();
        if !missing.is_empty() {
            queued += replicas::queue_local_copies(conn, &missing).await?;
        }
    }
    if queued > 0 {
        listen::notify(conn, listen::RUNS, "replication").await?;
    }
    Ok(queued)
}

/// The store, among those that accept new data, for one more copy.
fn missing_of<'s>(place: &Lacking, stores: &[&'s str], wanted: usize) -> Vec<(ObjectId, &'s str)> {
    if place.goes {
        return Vec::new();
    }
    let is_at = |store: &&str| place.stores.iter().any(|at| at == store);
    let lasting = stores.iter().filter(|store| is_at(store)).count();
    // An object that is only in stores that are being drained is about to be moved.
    if lasting == 0 {
        return Vec::new();
    }
    let free = stores.iter().filter(|store| !is_at(store));
    free.take(wanted.saturating_sub(lasting)).map(|store| (place.object_id, *store)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_copies_are_limited_by_the_setting_and_the_available_stores() {
        let missing = |at: &[&str], goes: bool, stores: &[&str], wanted: usize| {
            let stores_of = at.iter().map(|store| (*store).to_owned()).collect();
            let place = Lacking { object_id: ObjectId::new(), stores: stores_of, goes };
            missing_of(&place, stores, wanted)
                .into_iter()
                .map(|(_, store)| store.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(missing(&["a"], false, &["a", "b", "c"], 2), ["b"]);
        assert_eq!(missing(&["b"], false, &["a", "b", "c"], 3), ["a", "c"]);
        assert!(missing(&["a", "b"], false, &["a", "b", "c"], 2).is_empty());
        assert!(missing(&["a"], true, &["a", "b"], 2).is_empty(), "it will be evicted");
        assert_eq!(
            missing(&["a", "b"], false, &["b", "c"], 2),
            ["c"],
            "a is being drained and does not count"
        );
        assert!(missing(&["a"], false, &["b", "c"], 2).is_empty(), "it is about to move");
        assert!(missing(&["a"], false, &["a"], 2).is_empty(), "there is no place");
    }
}
