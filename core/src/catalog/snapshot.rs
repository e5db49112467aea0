//! Writes a snapshot: one read-only transaction with a consistent view, read page by page, compressed and uploaded as
//! it is read.
//!
//! The transaction is open during a network transfer, as an exception to the rule, because there is no place to store
//! the data: it takes no locks, every wait in it has a timeout, and Postgres ends it if the process stops fetching.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::encode::Encoder;
use super::error::{CatalogError, broke_off};
use super::format::{Counts, Header, VERSION};
use super::keys::Keys;
use super::listing;
use super::send::Sending;
use crate::context::Context;
use crate::db::catalog::{Reader, Table};
use crate::error::Error;
use crate::object::identity;
use crate::store::{ObjectKey, Store};

/// A snapshot that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Store.
    pub store: String,
    /// Object key.
    pub key: String,
    /// The time of its content.
    pub taken_at: DateTime<Utc>,
    /// Size in bytes.
    pub bytes: u64,
    /// Row counts by table.
    pub rows: Counts,
    /// The number of older snapshots deleted for it.
    pub pruned: usize,
    /// How long the operation took.
    pub took: Duration,
}

/// Writes a snapshot to the cloud store and deletes those that need not be retained. For the holder of the lease: see
/// [`super::export`].
pub(super) async fn write(
    context: &Context,
    tell: impl FnMut(&Counts) + Send,
    stop: &CancellationToken,
) -> Result<Snapshot, CatalogError> {
    let started = std::time::Instant::now();
    let store = context.stores.cloud()?;
    listing::abort_unfinished(store).await?;
    // One transaction for the whole snapshot, while the lease of this work is renewed through the pool.
    let mut conn = context.db.dedicated().await?;
    let mut unsent = None;
    let written = {
        let unsent = &mut unsent;
        let writing =
            conn.transaction(async move |conn| read_and_send(context, store, conn, tell, unsent).await);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(CatalogError::Interrupted),
            written = writing => written,
        }
    };
    drop(conn);
    let (key, taken_at, bytes, rows) = match written {
        Ok(written) => written,
        Err(error) => {
            if let Some(mut sending) = unsent {
                Sending::give_up(&mut sending).await;
            }
            return Err(error);
        }
    };
    // Another bucket may hold the snapshots of another installation.
    // While the database lacks the objects of the stores, older snapshots are what it is rebuilt from.
    let is_lost = context.stores.empty_catalogue().is_beside_objects();
    let pruned = if !is_lost && identity::is_proven(context, store).await {
        listing::prune(store, &context.config.catalog).await?
    } else {
        0
    };
    let took = started.elapsed();
    let (store, key) = (store.name().to_string(), key.to_string());
    Ok(Snapshot { store, key, taken_at, bytes, rows, pruned, took })
}

type Written = (ObjectKey, DateTime<Utc>, u64, Counts);

async fn read_and_send<'s>(
    context: &Context,
    store: &'s Store,
    conn: &mut AsyncPgConnection,
    mut tell: impl FnMut(&Counts) + Send,
    unsent: &mut Option<Sending<'s>>,
) -> Result<Written, CatalogError> {
    let (mut reader, taken_at) = Reader::begin(conn).await?;
    let header = header(context, &mut reader, taken_at).await?;
    let key = ObjectKey::of_snapshot(taken_at, header.id);
    // Kept outside, so that it can be aborted if this future is dropped.
    let sending = unsent.insert(Sending::new(store, key.clone()));
    let mut encoder = Encoder::new(&Keys::of(&context.config)?, &header)?;
    let mut rows = Counts::new();
    for table in Table::ALL {
        reader.start(table).await?;
        loop {
            let lines = reader.page().await?;
            if lines.is_empty() {
                break;
            }
            *rows.entry(table).or_default() += u64::try_from(lines.len()).unwrap_or(u64::MAX);
            // Compression, hashing and signing do not belong on an async thread.
            let page = tokio::task::spawn_blocking(move || {
                encoder.rows(table, &lines)?;
                let bytes = encoder.take();
                Ok::<_, Error>((encoder, bytes))
            });
            let bytes;
            (encoder, bytes) = page.await.map_err(|error| broke_off(&error))??;
            sending.push(&bytes).await?;
            tell(&rows);
        }
    }
    let (last, rows) = encoder.finish()?;
    sending.push(&last).await?;
    let bytes = sending.finish().await?;
    Ok((key, taken_at, bytes, rows))
}

async fn header(
    context: &Context,
    reader: &mut Reader<'_>,
    taken_at: DateTime<Utc>,
) -> Result<Header, CatalogError> {
    let mut tables = std::collections::BTreeMap::new();
    for table in Table::ALL {
        tables.insert(table, reader.columns(table).await?);
    }
    Ok(Header {
        nightferry_catalog: VERSION,
        id: Uuid::now_v7(),
        taken_at,
        schema: reader.schema().await?,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        key_id: Keys::of(&context.config)?.id().to_owned(),
        tables,
    })
}
