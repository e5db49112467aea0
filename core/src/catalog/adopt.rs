//! Adoption: brings objects of the stores that the database does not know into a database in use, with the owner, folder,
//! name and version in their metadata. After a restored backup, these are the files that were uploaded later. Unlike a
//! rebuild, it works in batches, each in a short transaction, while files are uploaded and synced.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as Diesel};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use tokio_util::sync::CancellationToken;

use super::error::CatalogError;
use super::examine::{Examined, examine_all};
use super::rebuild::{EXAMINED_PER_PAGE, list_stores};
use super::rebuilt::Event;
use crate::auth::Accounts;
use crate::auth::token::new_refresh_token;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::catalog::{self, Candidate, ImportedRows, Lifetime, Seen};
use crate::db::{self, objects, unsigned};
use crate::error::Error;
use crate::file::name;
use crate::ids::ObjectId;
use crate::store::{ObjectKey, StoreRole};
use crate::tiering::lease::with_lease;

/// Name of the lease: one process at a time adopts.
const LEASE: &str = "catalog adopt";
/// Attempts to import a batch while users create files and folders with the same names.
const ATTEMPTS: u32 = 5;

/// Options of an adoption.
#[derive(Debug, Clone, Copy)]
pub struct AdoptOptions<'a> {
    /// Whether the objects are adopted; otherwise they are only reported.
    pub apply: bool,
    /// The origin of the request, for the audit log.
    pub origin: &'a Origin,
}

/// The result of an adoption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Whether it completed.
    pub complete: bool,
    /// Objects listed, by store.
    pub listed: BTreeMap<String, u64>,
    /// Unknown objects that were examined, in each store by itself.
    pub examined: u64,
    /// Unknown objects that can be adopted, or were.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Remains of removed objects, which are not adopted.
    pub removed: u64,
    /// Objects without metadata of Nightferry, which are not adopted.
    pub unlabelled: u64,
    /// Unusable objects.
    pub unusable: u64,
    /// Rows created from metadata.
    pub imported: ImportedRows,
    /// Copies recorded.
    pub copies: u64,
    /// How long the operation took.
    pub took: Duration,
}

/// Adopts all unknown objects of the stores. An adoption interrupted by `stop` returns what it has done so far.
///
/// # Errors
/// [`CatalogError::Adopting`] while another process adopts; any error of a store or the database: earlier batches remain
/// adopted, and the next adoption continues.
pub async fn adopt(
    accounts: &Accounts,
    options: AdoptOptions<'_>,
    tell: impl FnMut(Event<'_>) + Send,
    stop: &CancellationToken,
) -> Result<Adoption, CatalogError> {
    let context = &accounts.context;
    let started = Instant::now();
    let work = async {
        let adopting = async {
            // No password matches this hash.
            let nobody = new_refresh_token()?;
            let password_hash = accounts.passwords.hash("here", nobody).await?;
            let conn = context.db.dedicated().await?;
            let adopter =
                Adopter { context, conn, options, password_hash, adoption: Adoption::default(), tell, stop };
            adopter.run().await
        };
        // Boxed: the future is large.
        Ok(Box::pin(adopting).await)
    };
    let mut adoption = with_lease(context, LEASE, work).await?.ok_or(CatalogError::Adopting)??;
    adoption.took = started.elapsed();
    Ok(adoption)
}

/// An adoption in progress.
struct Adopter<'a, T> {
    context: &'a Context,
    /// Outside of the pool, because its temporary tables are used for as long as it takes.
    conn: AsyncPgConnection,
    options: AdoptOptions<'a>,
    password_hash: String,
    adoption: Adoption,
    tell: T,
    stop: &'a CancellationToken,
}

impl<T: FnMut(Event<'_>) + Send> Adopter<'_, T> {
    async fn run(mut self) -> Result<Adoption, CatalogError> {
        let stop = self.stop;
        self.adoption.complete = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            outcome = self.everything() => outcome.map(|()| true)?,
        };
        if self.options.apply && self.adoption.objects > 0 {
            let adoption = &self.adoption;
            let detail = serde_json::json!({
                "complete": adoption.complete,
                "objects": adoption.objects,
                "users": adoption.imported.users,
                "files": adoption.imported.files,
                "versions": adoption.imported.versions,
            });
            let target = ("catalog", "objects");
            let mut conn = self.context.db.conn().await?;
            audit::record(&mut conn, self.options.origin, None, "catalog.adopt", target, detail).await?;
        }
        Ok(self.adoption)
    }

    async fn everything(&mut self) -> Result<(), CatalogError> {
        catalog::make_tables(&mut self.conn, Lifetime::Connection).await?;
        self.adoption.listed = list_stores(self.context, &mut self.conn, &mut self.tell).await?;
        let mut after: Option<Candidate> = None;
        loop {
            let limit = i64::try_from(EXAMINED_PER_PAGE).unwrap_or(i64::MAX);
            let mut page = catalog::unknown(&mut self.conn, after.as_ref(), limit).await?;
            keep_objects_together(&mut page);
            let Some(last) = page.last().cloned() else { return Ok(()) };
            after = Some(last);
            let page = self.without_removed(page).await?;
            let seen = self.examine(page).await?;
            self.count(&seen);
            if self.options.apply && !seen.is_empty() {
                self.import(&seen).await?;
            }
            (self.tell)(Event::Examined(self.adoption.examined));
        }
    }

    async fn without_removed(&mut self, mut page: Vec<Candidate>) -> Result<Vec<Candidate>, CatalogError> {
        let ids: Vec<ObjectId> = page.iter().filter_map(object_of).collect();
        let removed = objects::removed_among(&mut self.conn, &ids).await?;
        let before = page.len();
        page.retain(|candidate| object_of(candidate).is_none_or(|object| !removed.contains(&object)));
        self.adoption.removed += u64::try_from(before - page.len()).unwrap_or(u64::MAX);
        Ok(page)
    }

    /// The versions described by the usable objects of a page.
    async fn examine(&mut self, page: Vec<Candidate>) -> Result<Vec<Seen>, CatalogError> {
        let mut seen = Vec::new();
        for (candidate, found) in examine_all(self.context, page).await? {
            self.adoption.examined += 1;
            match found {
                Examined::Seen(versions) if versions.iter().all(|version| version.is_labelled) => {
                    seen.extend(versions);
                }
                Examined::Seen(_) => self.adoption.unlabelled += 1,
                Examined::Gone => {}
                Examined::Unusable(why) => {
                    self.adoption.unusable += 1;
                    let (store, key) = (candidate.store.as_str(), candidate.key.as_str());
                    (self.tell)(Event::Unusable { store, key, why: &why });
                }
            }
        }
        Ok(seen)
    }

    /// Counts and reports each object once, with its most complete description.
    fn count(&mut self, seen: &[Seen]) {
        let mut objects: BTreeMap<&str, &Seen> = BTreeMap::new();
        for version in seen.iter().filter(|version| version.ordinal == 0) {
            let known = objects.entry(&version.key).or_insert(version);
            if known.file_id.is_none() {
                *known = version;
            }
        }
        for version in objects.into_values() {
            self.adoption.objects += 1;
            self.adoption.bytes = self.adoption.bytes.saturating_add(unsigned(version.size));
            (self.tell)(Event::Adoptable(version));
        }
    }

    async fn import(&mut self, seen: &[Seen]) -> Result<(), CatalogError> {
        let mut attempt = 1;
        let (imported, copies) = loop {
            match self.import_once(seen).await {
                Err(error) if attempt < ATTEMPTS && is_name_taken(&error) => attempt += 1,
                outcome => break outcome?,
            }
        };
        let all = &mut self.adoption.imported;
        all.users += imported.users;
        all.folders += imported.folders;
        all.objects += imported.objects;
        all.files += imported.files;
        all.versions += imported.versions;
        all.renamed += imported.renamed;
        self.adoption.copies += copies;
        Ok(())
    }

    async fn import_once(&mut self, seen: &[Seen]) -> Result<(ImportedRows, u64), Error> {
        let stores = &self.context.stores;
        let (locals, clouds) = (stores.names_with(StoreRole::Local), stores.names_with(StoreRole::Cloud));
        let cloud = stores.cloud()?.name().as_str();
        let password_hash = self.password_hash.as_str();
        self.conn
            .transaction(async move |conn| {
                db::disable_statement_timeout(conn).await?;
                catalog::clear_observed(conn).await?;
                catalog::record_observed(conn, seen).await?;
                let imported = catalog::import_rows(conn, password_hash, name::numbered).await?;
                let copies = catalog::record_adopted(conn, &locals, cloud, &clouds).await?;
                Ok::<_, Error>((imported, copies))
            })
            .await
    }
}

/// Drops the last object of a full page, if it is not the only one: its copy in the next store may be on the next page.
fn keep_objects_together(page: &mut Vec<Candidate>) {
    let Some(last) = page.last().filter(|_| page.len() == EXAMINED_PER_PAGE) else { return };
    let kept = page.iter().take_while(|candidate| candidate.key != last.key).count();
    if kept > 0 {
        page.truncate(kept);
    }
}

fn object_of(candidate: &Candidate) -> Option<ObjectId> {
    ObjectKey::parse(&candidate.key).ok()?.object().map(ObjectId)
}

/// Whether a file or folder with the same name was created meanwhile.
fn is_name_taken(error: &Error) -> bool {
    matches!(error, Error::Database(Diesel::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
}
