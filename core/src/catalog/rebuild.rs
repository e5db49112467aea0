//! Rebuilds the catalogue in a database that is empty, or contains only the administrator of the first start: from the newest valid snapshot and later objects in the stores, or from
//! the metadata of the objects alone. All in one transaction: in any case, the database is either empty or complete.
//! The transaction is open while the stores are listed, as an exception to the rule: no other process uses a database
//! that is being rebuilt, which its locks enforce.

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use tokio_util::sync::CancellationToken;

use super::decode::{Item, Reading};
use super::error::{CatalogError, Refusal};
use super::examine::{Examined, examine_all};
use super::format::{Header, Row};
use super::keys::{Keys, SnapshotCipher};
use super::listing;
use super::rebuilt::{Event, Options, Rebuilt, Source};
use super::store_pages::{Listing, OBJECTS};
use super::verify::named;
use crate::auth::Accounts;
use crate::auth::token::new_refresh_token;
use crate::context::Context;
use crate::db::audit;
use crate::db::catalog::{self, Candidate, FoundObject, Lifetime, Table};
use crate::db::signed;
use crate::error::Error;
use crate::file::name;
use crate::store::{ObjectKey, StoreRole};

/// Number of objects examined per page of candidates.
pub(super) const EXAMINED_PER_PAGE: usize = 500;

/// Rebuilds the catalogue in an empty database, in one transaction.
///
/// # Errors
/// [`CatalogError`]; the database is unchanged.
pub async fn rebuild(
    accounts: &Accounts,
    options: &Options<'_>,
    mut tell: impl FnMut(Event<'_>) + Send,
    stop: &CancellationToken,
) -> Result<Rebuilt, CatalogError> {
    let context = &accounts.context;
    let started = Instant::now();
    let mut rebuilt = Rebuilt::default();
    let mut conn = context.db.conn().await?;
    let outcome = {
        let rebuilt = &mut rebuilt;
        let work = async {
            let snapshot = choose(context, &options.source, rebuilt, &mut tell).await?;
            // No password matches this hash.
            let nobody = new_refresh_token()?;
            let password_hash = accounts.passwords.hash("here", nobody).await?;
            conn.transaction(async move |conn| {
                let mut building = Building { context, conn, rebuilt, tell };
                building.run(snapshot.as_ref(), &password_hash).await?;
                if options.trial {
                    return Err(CatalogError::Trial);
                }
                building.record(options).await
            })
            .await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(CatalogError::Interrupted),
            outcome = work => outcome,
        }
    };
    match outcome {
        Ok(()) | Err(CatalogError::Trial) => {
            rebuilt.took = started.elapsed();
            Ok(rebuilt)
        }
        Err(error) => Err(error),
    }
}

/// The base snapshot: one that has been read to its end and verified.
async fn choose(
    context: &Context,
    source: &Source,
    rebuilt: &mut Rebuilt,
    tell: &mut (impl FnMut(Event<'_>) + Send),
) -> Result<Option<ObjectKey>, CatalogError> {
    let store = context.stores.cloud()?;
    match source {
        Source::Objects => return Ok(None),
        Source::Snapshot(key) => {
            let key = named(key)?;
            check(context, &key).await?;
            return Ok(Some(key));
        }
        Source::Newest => {}
    }
    let snapshots = listing::list(store).await?;
    let mut newest = None;
    for snapshot in &snapshots {
        match check(context, &snapshot.key).await {
            Ok(()) => return Ok(Some(snapshot.key.clone())),
            Err(error @ (CatalogError::Refused { .. } | CatalogError::NoSuchSnapshot(_))) => {
                let why = error.to_string();
                tell(Event::Refused { key: snapshot.key.as_str(), why: &why });
                rebuilt.rejected += 1;
                newest.get_or_insert(why);
            }
            Err(error) => return Err(error),
        }
    }
    Err(match newest {
        Some(newest) => CatalogError::NoneValid { count: snapshots.len(), newest },
        None => CatalogError::NoSnapshot(store.name().to_string()),
    })
}

async fn check(context: &Context, key: &ObjectKey) -> Result<(), CatalogError> {
    let mut reading = Reading::open(&context.config, context.stores.cloud()?, key).await?;
    loop {
        if let Item::End(_) = reading.next().await? {
            return Ok(());
        }
    }
}

/// A rebuild in progress, within its transaction.
struct Building<'b, T> {
    context: &'b Context,
    conn: &'b mut AsyncPgConnection,
    rebuilt: &'b mut Rebuilt,
    tell: T,
}

impl<T: FnMut(Event<'_>) + Send> Building<'_, T> {
    async fn run(&mut self, snapshot: Option<&ObjectKey>, password_hash: &str) -> Result<(), CatalogError> {
        let filled = catalog::take_over(self.conn).await?;
        let first_account = match catalog::set_aside(self.conn, &filled).await? {
            None if !filled.is_empty() => {
                let rows: Vec<String> =
                    filled.iter().map(|(table, rows)| format!("{rows} {}", <&str>::from(table))).collect();
                return Err(CatalogError::NotEmpty(rows.join(", ")));
            }
            account => account,
        };
        if let Some(key) = snapshot {
            self.restore(key).await?;
        }
        catalog::make_tables(self.conn, Lifetime::Transaction).await?;
        self.rebuilt.listed = list_stores(self.context, self.conn, &mut self.tell).await?;
        let since = self.since();
        self.examine(since).await?;
        if let Some(since) = since {
            self.rebuilt.unrecovered = catalog::count_unrecovered(self.conn, since).await?;
        }
        self.rebuilt.imported = catalog::import_rows(self.conn, password_hash, name::numbered).await?;
        let stores = &self.context.stores;
        let (locals, cloud) = (stores.names_with(StoreRole::Local), stores.cloud()?.name().as_str());
        let clouds = stores.names_with(StoreRole::Cloud);
        self.rebuilt.aligned = catalog::align(self.conn, &locals, cloud, &clouds).await?;
        if let Some(account) = first_account {
            catalog::put_back(self.conn, &account, password_hash).await?;
        }
        catalog::finish(self.conn).await?;
        Ok(())
    }

    /// Older objects are in the snapshot, or were deleted before it. In some stores the time of an upload is its start,
    /// and it is recorded at its end: the lifetime of an upload session is therefore subtracted.
    fn since(&self) -> Option<DateTime<Utc>> {
        let allowance =
            TimeDelta::from_std(self.context.config.uploads.session_ttl).unwrap_or(TimeDelta::days(1));
        Some(self.rebuilt.taken_at? - allowance)
    }

    async fn restore(&mut self, key: &ObjectKey) -> Result<(), CatalogError> {
        let refused = |why| CatalogError::Refused { key: key.to_string(), why };
        let keys = Keys::of(&self.context.config)?;
        let mut reading = Reading::open(&self.context.config, self.context.stores.cloud()?, key).await?;
        let Item::Header(header) = reading.next().await? else {
            return Err(refused(Refusal::Truncated));
        };
        let cipher = keys.cipher(header.id)?;
        let statements = self.statements(&header).await?.map_err(refused)?;
        self.rebuilt.snapshot = Some(key.to_string());
        self.rebuilt.taken_at = Some(header.taken_at);
        loop {
            match reading.next().await? {
                Item::Header(_) => return Err(refused(Refusal::Damaged("it has two headers".to_owned()))),
                Item::Rows(table, rows) => {
                    let statement = statements.get(&table).map(String::as_str).unwrap_or_default();
                    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                    let rows = array(table, rows, &cipher).map_err(refused)?;
                    catalog::insert(self.conn, statement, &rows).await?;
                    *self.rebuilt.restored.entry(table).or_default() += count;
                    (self.tell)(Event::Restored(&self.rebuilt.restored));
                }
                Item::End(_) => return Ok(()),
            }
        }
    }

    /// The insert statement of each table; or why there is none.
    async fn statements(
        &mut self,
        header: &Header,
    ) -> Result<Result<BTreeMap<Table, String>, Refusal>, CatalogError> {
        let mut statements = BTreeMap::new();
        for (table, columns) in &header.tables {
            match catalog::insert_statement(self.conn, *table, columns).await {
                Ok(statement) => statements.insert(*table, statement),
                Err(Error::Validation(fields)) => {
                    let names: Vec<String> =
                        fields.iter().map(|field| format!("{}.{}", field.field, field.message)).collect();
                    return Ok(Err(Refusal::NewerSchema(names.join(", "))));
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Ok(statements))
    }

    /// Examines objects that are unknown, or not known to be in their store.
    async fn examine(&mut self, since: Option<DateTime<Utc>>) -> Result<(), CatalogError> {
        let mut after: Option<Candidate> = None;
        loop {
            let limit = i64::try_from(EXAMINED_PER_PAGE).unwrap_or(i64::MAX);
            let page = catalog::candidates(self.conn, since, after.as_ref(), limit).await?;
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            let looked = examine_all(self.context, page).await?;
            let mut seen = Vec::new();
            for (candidate, found) in looked {
                self.rebuilt.examined += 1;
                match found {
                    Examined::Seen(versions) => seen.extend(versions),
                    Examined::Gone => {}
                    Examined::Unusable(why) => {
                        self.rebuilt.unusable += 1;
                        (self.tell)(Event::Unusable {
                            store: &candidate.store,
                            key: &candidate.key,
                            why: &why,
                        });
                    }
                }
            }
            catalog::record_observed(self.conn, &seen).await?;
            (self.tell)(Event::Examined(self.rebuilt.examined));
        }
    }

    async fn record(&mut self, options: &Options<'_>) -> Result<(), CatalogError> {
        let detail = serde_json::json!({
            "snapshot": self.rebuilt.snapshot,
            "restored": self.rebuilt.restored,
            "objects_examined": self.rebuilt.examined,
        });
        let target = ("catalog", self.rebuilt.snapshot.as_deref().unwrap_or("objects"));
        audit::record(self.conn, options.origin, None, "catalog.rebuild", target, detail).await?;
        Ok(())
    }
}

/// Records the listings of all stores. Returns the number of objects of each.
pub(super) async fn list_stores(
    context: &Context,
    conn: &mut AsyncPgConnection,
    tell: &mut (impl FnMut(Event<'_>) + Send),
) -> Result<BTreeMap<String, u64>, CatalogError> {
    let mut listed = BTreeMap::new();
    for store in context.stores.all() {
        let name = store.name().as_str();
        let mut listing = Listing::new(store, OBJECTS);
        let mut objects = 0;
        while let Some(page) = listing.page().await? {
            objects += u64::try_from(page.len()).unwrap_or(u64::MAX);
            let found: Vec<FoundObject> = page
                .into_iter()
                .map(|object| FoundObject {
                    key: object.key,
                    size: signed(object.size),
                    modified: object.last_modified,
                })
                .collect();
            catalog::record_listed(conn, name, &found).await?;
            tell(Event::Listed { store: name, objects });
        }
        listed.insert(name.to_owned(), objects);
    }
    catalog::index_listed(conn).await?;
    Ok(listed)
}

/// Rows as one JSON array, with the password hashes of users decrypted.
fn array(table: Table, rows: Vec<Row>, cipher: &SnapshotCipher) -> Result<String, Refusal> {
    let mut text = "[".to_owned();
    for row in rows {
        if text.len() > 1 {
            text.push(',');
        }
        if table == Table::Users {
            text.push_str(&opened(&row.json, cipher)?);
        } else {
            text.push_str(&row.json);
        }
    }
    text.push(']');
    Ok(text)
}

fn opened(json: &str, cipher: &SnapshotCipher) -> Result<String, Refusal> {
    let damaged = |error: serde_json::Error| Refusal::Damaged(error.to_string());
    let mut user: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).map_err(damaged)?;
    let text = |name: &str| user.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let hash = cipher
        .decrypt(&text("password_hash"), &text("id"))
        .ok_or_else(|| Refusal::Damaged("a password hash cannot be decrypted".to_owned()))?;
    user.insert("password_hash".to_owned(), hash.into());
    serde_json::to_string(&user).map_err(damaged)
}
