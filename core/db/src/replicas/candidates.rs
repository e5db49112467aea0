//! Which objects a plan has to examine: those that may need a copy in a store. Found with partial indexes, so that the
//! cost of a plan depends on the number of new objects, not of all objects. In batches, ordered by id.
//!
//! `spare_since` of the local copy shows whether an object has been synced: it is set when the cloud copy is verified,
//! and cleared when the last row of a cloud copy is deleted. This holds for a single store of each role, if none is
//! being drained, and there was never another; otherwise every object is examined. Reconcile corrects manual changes.
//! See docs/adr/0014.

use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::plan::Wanted;
use super::{Flag, ObjectRow};
use crate::error::Result;
use crate::ids::{FolderId, ObjectId, UserId};
use crate::statement::Values;

/// Objects examined in one statement.
const PIECE: i64 = 5_000;

/// The objects of one statement.
#[derive(Debug)]
pub(crate) enum Among {
    Everything,
    Objects(Vec<ObjectId>),
}

impl Among {
    /// The end of a subquery in a condition: `OFFSET 0` is an optimization fence that prevents the planner from reading
    /// a whole table instead of one row per object.
    pub(crate) const fn fence(&self) -> &'static str {
        match self {
            Self::Everything => "",
            Self::Objects(_) => "OFFSET 0",
        }
    }
}

#[derive(Debug)]
enum Source<'w> {
    /// Every stored object.
    Stored,
    /// Those of an account.
    OwnedBy(UserId),
    /// Those of the files in a folder.
    InFolder(FolderId),
    /// The versions of the selected files.
    Named(Vec<ObjectId>),
    /// Objects with only a local copy.
    OnlyIn(&'w str),
    /// Objects whose copy in this store is queued, failed or lost.
    Waiting(&'w str),
}

/// The objects in batches.
#[derive(Debug)]
pub(crate) struct Candidates<'w> {
    source: Source<'w>,
    after: ObjectId,
    over: bool,
}

impl<'w> Candidates<'w> {
    /// Objects that may have no row in the destination store.
    pub(crate) async fn absent(conn: &mut AsyncPgConnection, wanted: &Wanted<'w>) -> Result<Self> {
        let policy = wanted.policy;
        let is_usual =
            policy.locals == [policy.local] && policy.clouds == [wanted.store] && policy.draining.is_empty();
        let source = match named(conn, wanted).await? {
            Some(named) => Source::Named(named),
            None if is_usual && !any_in_other_store(conn, policy.local, wanted.store).await? => {
                Source::OnlyIn(policy.local)
            }
            None => match (wanted.scope.folder_id, wanted.scope.user_id) {
                (Some(folder), _) => Source::InFolder(folder),
                (None, Some(user)) => Source::OwnedBy(user),
                (None, None) => Source::Stored,
            },
        };
        Ok(Self::of(source))
    }

    /// Objects whose copy in the destination store is queued, failed or lost.
    pub(crate) async fn waiting(conn: &mut AsyncPgConnection, wanted: &Wanted<'w>) -> Result<Self> {
        let named = named(conn, wanted).await?;
        Ok(Self::of(named.map_or(Source::Waiting(wanted.store), Source::Named)))
    }

    const fn of(source: Source<'w>) -> Self {
        Self { source, after: ObjectId(uuid::Uuid::nil()), over: false }
    }

    /// The next batch; `None` at the end.
    pub(crate) async fn next(&mut self, conn: &mut AsyncPgConnection) -> Result<Option<Among>> {
        if self.over {
            return Ok(None);
        }
        let piece = match &mut self.source {
            Source::Stored => stored(conn, self.after).await?,
            Source::OwnedBy(user) => owned_by(conn, *user, self.after).await?,
            Source::InFolder(folder) => in_folder(conn, *folder, self.after).await?,
            Source::Named(named) => {
                self.over = true;
                std::mem::take(named)
            }
            Source::OnlyIn(store) => only_in(conn, store, self.after).await?,
            Source::Waiting(store) => waiting_in(conn, store, self.after).await?,
        };
        let Some(last) = piece.last() else { return Ok(None) };
        self.after = *last;
        self.over |= i64::try_from(piece.len()).unwrap_or(i64::MAX) < PIECE;
        Ok(Some(Among::Objects(piece)))
    }
}

/// The objects of the files in the scope, if it selects any.
async fn named(conn: &mut AsyncPgConnection, wanted: &Wanted<'_>) -> Result<Option<Vec<ObjectId>>> {
    let Some(files) = &wanted.scope.file_ids else { return Ok(None) };
    let files: Vec<uuid::Uuid> = files.iter().map(|file| file.0).collect();
    let rows: Vec<ObjectRow> = diesel::sql_query(
        "SELECT DISTINCT object_id FROM file_versions WHERE file_id = ANY($1) ORDER BY object_id",
    )
    .bind::<Array<SqlUuid>, _>(files)
    .load(conn)
    .await?;
    Ok(Some(ObjectRow::ids(rows)))
}

/// Whether there are or were copies in a store other than these two. Uses the ends of an index: the stores in between
/// are never read.
async fn any_in_other_store(conn: &mut AsyncPgConnection, one: &str, other: &str) -> Result<bool> {
    let mut values = Values::default();
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    let (first, second) = (values.text(first), values.text(second));
    let any = |state: &str| {
        let any = |which: &str| {
            format!("EXISTS (SELECT 1 FROM replicas WHERE {state} AND {which} ORDER BY store LIMIT 1)")
        };
        format!(
            "{} OR {} OR {}",
            any(&format!("store < {first}")),
            any(&format!("store > {first} AND store < {second}")),
            any(&format!("store > {second}"))
        )
    };
    let sql = format!("SELECT {} OR {} AS yes", any("state = 'present'"), any("state IN ('failed', 'lost')"));
    let row: Flag = values.query(&sql).get_result(conn).await?;
    Ok(row.yes)
}

async fn stored(conn: &mut AsyncPgConnection, after: ObjectId) -> Result<Vec<ObjectId>> {
    let rows: Vec<ObjectRow> = diesel::sql_query(
        "SELECT id AS object_id FROM objects WHERE state = 'stored' AND id > $1 ORDER BY id LIMIT $2",
    )
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(PIECE)
    .load(conn)
    .await?;
    Ok(ObjectRow::ids(rows))
}

async fn owned_by(conn: &mut AsyncPgConnection, user: UserId, after: ObjectId) -> Result<Vec<ObjectId>> {
    let rows: Vec<ObjectRow> = diesel::sql_query(
        "SELECT id AS object_id FROM objects WHERE owner_id = $1 AND state = 'stored' AND id > $2 \
         ORDER BY id LIMIT $3",
    )
    .bind::<SqlUuid, _>(user)
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(PIECE)
    .load(conn)
    .await?;
    Ok(ObjectRow::ids(rows))
}

async fn in_folder(conn: &mut AsyncPgConnection, folder: FolderId, after: ObjectId) -> Result<Vec<ObjectId>> {
    let rows: Vec<ObjectRow> = diesel::sql_query(
        "SELECT DISTINCT v.object_id FROM files f JOIN file_versions v ON v.file_id = f.id \
         WHERE f.folder_id = $1 AND v.object_id > $2 ORDER BY v.object_id LIMIT $3",
    )
    .bind::<SqlUuid, _>(folder)
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(PIECE)
    .load(conn)
    .await?;
    Ok(ObjectRow::ids(rows))
}

async fn only_in(conn: &mut AsyncPgConnection, store: &str, after: ObjectId) -> Result<Vec<ObjectId>> {
    let rows: Vec<ObjectRow> = diesel::sql_query(
        "SELECT object_id FROM replicas \
         WHERE store = $1 AND state = 'present' AND spare_since IS NULL AND object_id > $2 \
         ORDER BY object_id LIMIT $3",
    )
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(after)
    .bind::<BigInt, _>(PIECE)
    .load(conn)
    .await?;
    Ok(ObjectRow::ids(rows))
}

async fn waiting_in(conn: &mut AsyncPgConnection, store: &str, after: ObjectId) -> Result<Vec<ObjectId>> {
    let mut values = Values::default();
    let (store, after, limit) = (values.text(store), values.id(after), values.number(PIECE));
    let some = |which: &str| {
        format!(
            "(SELECT object_id FROM replicas WHERE {which} AND object_id > {after} \
              ORDER BY object_id LIMIT {limit})"
        )
    };
    // Each with its own index, in its order. `IS TRUE` prevents the second one from using another index with another
    // order.
    let sql = format!(
        "SELECT object_id FROM ({} UNION ALL {}) w ORDER BY object_id LIMIT {limit}",
        some(&format!("store = {store} AND state IN ('failed', 'lost')")),
        some(&format!("(store = {store}) IS TRUE AND state = 'queued' AND run_id IS NULL")),
    );
    Ok(ObjectRow::ids(values.query(&sql).load(conn).await?))
}
