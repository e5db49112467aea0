//! Detects a database without objects beside stores that contain objects of Nightferry: a new database in place of a lost
//! one, or the wrong one. Until the catalogue has been rebuilt, nothing is deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::{objects, replicas};
use crate::error::{Error, Result};
use crate::store::{ObjectKey, Store, StoreError};

/// Timeout of the requests to one store.
const DEADLINE: Duration = Duration::from_secs(5);
/// The prefix of all keys of users' objects.
const OBJECTS: &str = "user-";
/// Keys to examine: some may belong to other software.
const EXAMINED: usize = 50;

/// Checks the database and, if it contains no objects, the stores that respond. Returns the stores that contain objects
/// unknown to the database. Once found, they remain until one of their objects is known or gone.
///
/// # Errors
/// Any database error; then the last result remains.
pub async fn check(context: &Context) -> Result<Vec<String>> {
    let state = context.stores.empty_catalogue();
    let before = state.samples();
    let samples =
        if before.is_empty() { find(context).await? } else { still_unknown(context, before).await? };
    let names: Vec<String> = samples.keys().cloned().collect();
    let is_lost = !names.is_empty();
    let was_lost = state.saw(samples);
    if is_lost && !was_lost {
        tracing::error!(
            target: "nightferry::sync",
            stores = names.join(", "),
            "THE DATABASE CONTAINS NO OBJECTS, BUT THE STORES DO: it is new, or not the right one. Nothing is \
             deleted until this is resolved: correct `database.url`, restore a backup of the database, or stop all \
             services and run `nightferry catalog rebuild`"
        );
    } else if was_lost && !is_lost {
        tracing::info!(target: "nightferry::sync", "the database knows the objects of the stores again");
    }
    Ok(names)
}

/// Returns an error if stores contain objects and the database contains none.
///
/// # Errors
/// [`Error::Conflict`] with the reason; any database error.
pub async fn require(context: &Context) -> Result<()> {
    let stores = check(context).await?;
    if stores.is_empty() {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "The database contains no objects, but these stores do: {}. Nothing is deleted. Restore a backup of the \
         database, or run `nightferry catalog rebuild`.",
        stores.join(", ")
    )))
}

/// Checks at every `health.interval`, until `shutdown`.
pub(super) async fn watch(context: &Context, shutdown: &CancellationToken) {
    loop {
        let pause = tokio::time::sleep(context.config.health.interval);
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return;
        }
        if let Some(Err(error)) = shutdown.run_until_cancelled(check(context)).await {
            tracing::debug!(%error, "cannot check whether the database contains objects");
        }
    }
}

async fn is_empty(context: &Context) -> Result<bool> {
    Ok(!replicas::any_known(&mut *context.db.conn().await?).await?)
}

/// One key of each store that contains objects, if the database contains none.
async fn find(context: &Context) -> Result<BTreeMap<String, String>> {
    let mut samples = BTreeMap::new();
    if !is_empty(context).await? {
        return Ok(samples);
    }
    for store in context.stores.all() {
        match tokio::time::timeout(DEADLINE, first_key(store)).await {
            Ok(Ok(Some(key))) => drop(samples.insert(store.name().to_string(), key)),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(store = %store.name(), %error, "cannot list the store"),
            Err(_) => tracing::debug!(store = %store.name(), "the store does not respond"),
        }
    }
    // A first upload has its row before its object.
    Ok(if is_empty(context).await? { samples } else { BTreeMap::new() })
}

async fn first_key(store: &Store) -> Result<Option<String>, StoreError> {
    let page = store.list(OBJECTS, None, EXAMINED).await?;
    Ok(page.objects.into_iter().map(|object| object.key).find(|key| ObjectKey::parse(key).is_ok()))
}

/// Those of the stores whose object is still there and unknown.
async fn still_unknown(
    context: &Context,
    samples: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut unknown = BTreeMap::new();
    for (name, key) in samples {
        let is_known = objects::is_known(&mut *context.db.conn().await?, &key).await?;
        if !is_known && !is_gone(context, &name, &key).await {
            unknown.insert(name, key);
        }
    }
    Ok(unknown)
}

async fn is_gone(context: &Context, store: &str, key: &str) -> bool {
    let (Some(store), Ok(key)) = (context.stores.get(store), ObjectKey::parse(key)) else { return true };
    matches!(tokio::time::timeout(DEADLINE, store.head(&key)).await, Ok(Ok(None)))
}
