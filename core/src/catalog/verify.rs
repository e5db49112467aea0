//! Verifies a snapshot: signature, hash, counts, and that every copy it lists is in its store. Needs no database: the
//! copies are sorted by key, and are merged with the listings of the stores.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::decode::{Item, Reading};
use super::error::{CatalogError, Refusal};
use super::format::{Counts, ReplicaOf, Row};
use super::listing;
use super::store_pages::{Listing, OBJECTS};
use crate::context::Context;
use crate::db::catalog::Table;
use crate::db::enums::ReplicaState;
use crate::db::unsigned;
use crate::encryption::EncryptionEnvelope;
use crate::retry::{self, RetryPolicy};
use crate::store::{Label, ObjectHead, ObjectKey, Store, StoreError};

/// Objects checked concurrently.
pub(super) const CONCURRENCY: usize = 16;

/// What is wrong with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Bad {
    /// The copy is missing.
    Missing,
    /// The copy has a different size.
    WrongSize,
    /// Metadata or the store's checksum belongs to other content.
    WrongContent,
    /// Its store is not configured.
    UnknownStore,
}

/// A copy that differs from the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong with the copy.
    #[serde(rename = "kind")]
    pub bad: Bad,
    /// Store.
    pub store: String,
    /// Key.
    pub key: String,
}

/// A valid snapshot, and the state of the copies that it lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Store of the snapshot.
    pub store: String,
    /// Object key.
    pub key: String,
    /// The time of its content.
    pub taken_at: Option<DateTime<Utc>>,
    /// The latest migration in the snapshot.
    pub schema: String,
    /// Row counts by table.
    pub rows: Counts,
    /// The number of copies checked.
    pub copies: u64,
    /// The number of bad copies, by kind.
    pub bad: BTreeMap<Bad, u64>,
    /// Objects without a good copy.
    pub objects_without_copy: u64,
}

impl Verified {
    /// Bad copies.
    pub fn bad_copies(&self) -> u64 {
        self.bad.values().sum()
    }
}

/// Verifies the snapshot `key`, or else the newest; with `deep`, one request per copy compares its metadata and
/// checksum.
///
/// # Errors
/// [`CatalogError::Refused`] if it is invalid; any store error.
pub async fn verify(
    context: &Context,
    key: Option<&str>,
    deep: bool,
    mut tell: impl FnMut(&Verified, Option<&Finding>) + Send,
    stop: &CancellationToken,
) -> Result<Verified, CatalogError> {
    let store = context.stores.cloud()?;
    let key = match key {
        Some(key) => named(key)?,
        None => newest(store).await?,
    };
    let (name, text) = (store.name().to_string(), key.to_string());
    let verified = Verified { store: name, key: text, ..Verified::default() };
    let listings = context
        .stores
        .all()
        .map(|store| (store.name().to_string(), (store, Listing::new(store, OBJECTS))))
        .collect();
    let mut checker = Checker { verified, listings, deep, object: None };
    let mut reading = Reading::open(&context.config, store, &key).await?;
    loop {
        let item = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(CatalogError::Interrupted),
            item = reading.next() => item?,
        };
        match item {
            Item::Header(header) => {
                checker.verified.taken_at = Some(header.taken_at);
                checker.verified.schema = header.schema;
            }
            Item::Rows(Table::Replicas, rows) => {
                for finding in checker.check(rows).await? {
                    tell(&checker.verified, Some(&finding));
                }
            }
            Item::Rows(..) => {}
            Item::End(rows) => {
                checker.end_object();
                checker.verified.rows = rows;
                return Ok(checker.verified);
            }
        }
        tell(&checker.verified, None);
    }
}

/// The key of a snapshot named by the operator.
pub(super) fn named(text: &str) -> Result<ObjectKey, CatalogError> {
    let (key, ..) =
        ObjectKey::parse_snapshot(text).map_err(|_| CatalogError::NoSuchSnapshot(text.to_owned()))?;
    Ok(key)
}

async fn newest(store: &Store) -> Result<ObjectKey, CatalogError> {
    let newest = listing::list(store).await?.into_iter().next();
    newest.map(|listed| listed.key).ok_or_else(|| CatalogError::NoSnapshot(store.name().to_string()))
}

/// The location in the row of a replica.
#[derive(Debug, Deserialize)]
struct Place {
    store: String,
    state: ReplicaState,
}

/// A copy to check, with its entry in the listing.
struct Named<'s> {
    place: Place,
    of: ReplicaOf,
    store: Option<&'s Store>,
    listed_size: Option<u64>,
}

struct Checker<'c> {
    verified: Verified,
    listings: BTreeMap<String, (&'c Store, Listing<'c>)>,
    deep: bool,
    /// The object whose copies are being checked, and whether one of them is good.
    object: Option<(String, bool)>,
}

impl<'c> Checker<'c> {
    /// Checks copies in key order.
    async fn check(&mut self, rows: Vec<Row>) -> Result<Vec<Finding>, CatalogError> {
        let mut copies = Vec::with_capacity(rows.len());
        for row in rows {
            copies.extend(self.find(row).await?);
        }
        let deep = self.deep;
        let checked: Vec<(Named<'c>, Option<Bad>)> = stream::iter(copies)
            .map(|copy| async move {
                let bad = judge(&copy, deep).await?;
                Ok::<_, StoreError>((copy, bad))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await?;
        let mut findings = Vec::new();
        for (copy, bad) in checked {
            self.verified.copies += 1;
            if self.object.as_ref().is_none_or(|(key, _)| *key != copy.of.key) {
                self.end_object();
                self.object = Some((copy.of.key.clone(), false));
            }
            match (bad, &mut self.object) {
                (None, Some((_, good))) => *good = true,
                (Some(bad), _) => {
                    *self.verified.bad.entry(bad).or_default() += 1;
                    findings.push(Finding { bad, store: copy.place.store, key: copy.of.key });
                }
                (None, None) => {}
            }
        }
        Ok(findings)
    }

    /// An expected copy, with its entry in the listing.
    async fn find(&mut self, row: Row) -> Result<Option<Named<'c>>, CatalogError> {
        let damaged = |what: String| CatalogError::Refused {
            key: self.verified.key.clone(),
            why: Refusal::Damaged(what),
        };
        let place: Place = serde_json::from_str(&row.json).map_err(|error| damaged(error.to_string()))?;
        let of = row.of.ok_or_else(|| damaged("a copy does not name its object".to_owned()))?;
        if place.state != ReplicaState::Present {
            return Ok(None);
        }
        let Some((store, listing)) = self.listings.get_mut(&place.store) else {
            return Ok(Some(Named { place, of, store: None, listed_size: None }));
        };
        let listed_size = listing.find(&of.key).await?.map(|object| object.size);
        Ok(Some(Named { place, of, store: Some(*store), listed_size }))
    }

    fn end_object(&mut self) {
        if let Some((_, false)) = self.object.take() {
            self.verified.objects_without_copy += 1;
        }
    }
}

/// What is wrong with a copy. If the listing lacks it, or differs, it is checked with a request first.
async fn judge(copy: &Named<'_>, deep: bool) -> Result<Option<Bad>, StoreError> {
    let Some(store) = copy.store else { return Ok(Some(Bad::UnknownStore)) };
    if !deep && copy.listed_size == Some(unsigned(copy.of.size)) {
        return Ok(None);
    }
    let Ok(key) = ObjectKey::parse(&copy.of.key) else { return Ok(Some(Bad::Missing)) };
    let head = || store.head(&key);
    let Some(head) = retry::retry(&RetryPolicy::default(), head, StoreError::retry).await? else {
        return Ok(Some(Bad::Missing));
    };
    if head.size != unsigned(copy.of.size) {
        return Ok(Some(Bad::WrongSize));
    }
    Ok((deep && !is_content(&head, &copy.of)).then_some(Bad::WrongContent))
}

/// Whether nothing that the store reports about an object contradicts its hash. For an encrypted one it reports nothing
/// comparable.
fn is_content(head: &ObjectHead, of: &ReplicaOf) -> bool {
    if head.metadata.contains_key(EncryptionEnvelope::KEY_ID) {
        return true;
    }
    let said = Label::read(&head.metadata).sha256.or(head.sha256);
    said.is_none_or(|sha256| sha256.to_string() == of.sha256)
}
