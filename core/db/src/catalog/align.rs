//! Updates the replicas to match the contents of the stores, and the primary locations of files to match the replicas.

use diesel::sql_types::{Array, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::found::stored_size;
use super::import::run;
use crate::error::Result;
use crate::replicas::{self, Count, FORGET_UNLISTED, LOSE, MARK_FOUND, UPDATE_PRESENT};
use crate::statement::Values;

/// The number of updated rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Aligned {
    /// Copies that the catalogue did not know, or not as present.
    pub found: u64,
    /// Missing copies of objects that have another copy: they were evicted, or have to be made again.
    pub missing: u64,
    /// Missing copies of objects that have no other copy.
    pub lost: u64,
    /// Copies that could not be proved: not verified until they have been read.
    pub unverified: u64,
}

/// Updates replicas and locations. `clouds` are the stores that can be the primary location, with `cloud` first;
/// `locals` are the stores whose copies become evictable if there is another copy.
pub async fn align(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    cloud: &str,
    clouds: &[&str],
) -> Result<Aligned> {
    run(conn, "ANALYZE objects, replicas, files, file_versions, catalog_seen").await?;
    let found = MARK_FOUND.insert(
        "object_id, store, etag, storage_class, rule, verified_at, key_id, envelope",
        "SELECT DISTINCT ON (o.id, s.store) o.id, s.store, s.etag, s.storage_class, 'rebuild', s.verified_at, s.key_id, \
                decode(s.envelope, 'hex') \
         FROM catalog_seen s JOIN objects o ON o.key = s.key \
         WHERE o.size = s.size AND o.sha256 = decode(s.sha256, 'hex')",
        &MARK_FOUND.on_conflict("", "true"),
    );
    let found = run(conn, &found).await?;
    // A replica `r` of an object `o` exists if it is listed with the size expected in its store.
    let size = stored_size("o.size", "r.key_id IS NOT NULL");
    let is_there = format!(
        "EXISTS (SELECT 1 FROM catalog_found f WHERE f.key = o.key AND f.store = r.store AND f.size = {size})"
    );
    let size_of_other = stored_size("o.size", "p.key_id IS NOT NULL");
    let missing = FORGET_UNLISTED.delete(
        "USING objects o",
        &format!(
            "o.id = r.object_id AND NOT {is_there} \
             AND EXISTS (SELECT 1 FROM replicas p JOIN catalog_found c ON c.store = p.store AND c.key = o.key \
                         WHERE p.object_id = o.id AND p.store <> r.store AND p.state = 'present' AND c.size = {size_of_other})"
        ),
    );
    let missing = run(conn, &missing).await?;
    let lost = LOSE.update(
        "last_error = 'not found in store ' || r.store || ' when the catalogue was rebuilt'",
        "FROM objects o",
        &format!("o.id = r.object_id AND NOT {is_there}"),
    );
    let lost = run(conn, &lost).await?;
    primary_stores(conn, locals, cloud, clouds, Part::Everything).await?;
    replicas::correct_evictable(conn, locals, clouds).await?;
    let unverified: Count = diesel::sql_query(
        "SELECT count(*) AS count FROM replicas r WHERE r.state = 'present' AND r.verified_at IS NULL",
    )
    .get_result(conn)
    .await?;
    Ok(Aligned { found, missing, lost, unverified: crate::unsigned(unverified.count) })
}

/// Records the copies of the objects that [`super::import_rows`] has created in this transaction, and what follows from
/// them: the primary locations of their files, and the storage usage of the accounts. Other rows are not touched.
pub async fn record_adopted(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    cloud: &str,
    clouds: &[&str],
) -> Result<u64> {
    let found = MARK_FOUND.insert(
        "object_id, store, etag, storage_class, rule, verified_at, key_id, envelope",
        "SELECT DISTINCT ON (o.id, s.store) o.id, s.store, s.etag, s.storage_class, 'rebuild', s.verified_at, s.key_id, \
                decode(s.envelope, 'hex') \
         FROM catalog_new n JOIN objects o ON o.id = n.object_id JOIN catalog_seen s ON s.key = o.key \
         WHERE n.ordinal = 0 AND o.size = s.size AND o.sha256 = decode(s.sha256, 'hex')",
        "ON CONFLICT DO NOTHING",
    );
    let found = run(conn, &found).await?;
    primary_stores(conn, locals, cloud, clouds, Part::New).await?;
    run(
        conn,
        "UPDATE users u SET used_bytes = u.used_bytes + s.bytes FROM ( \
             SELECT f.owner_id, sum(o.size)::bigint AS bytes FROM file_versions v \
             JOIN files f ON f.id = v.file_id JOIN objects o ON o.id = v.object_id \
             WHERE v.object_id IN (SELECT n.object_id FROM catalog_new n) GROUP BY f.owner_id \
         ) s WHERE s.owner_id = u.id",
    )
    .await?;
    Ok(found)
}

/// Which rows are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of them.
    Everything,
    /// Those of the objects that are being imported.
    New,
}

async fn primary_stores(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    cloud: &str,
    clouds: &[&str],
    part: Part,
) -> Result<()> {
    let (files, objects) = match part {
        Part::Everything => ("true", "true"),
        Part::New => (
            "f.id IN (SELECT n.file_id FROM catalog_new n)",
            "r.object_id IN (SELECT n.object_id FROM catalog_new n)",
        ),
    };
    diesel::sql_query(format!(
        "UPDATE files f SET storage_location = h.store, synced_at = h.synced_at FROM ( \
             SELECT f.id, coalesce(c.store, l.store) AS store, c.verified_at AS synced_at \
             FROM files f JOIN file_versions v ON v.file_id = f.id AND v.number = f.current_version \
             LEFT JOIN LATERAL ( \
                 SELECT r.store, coalesce(r.verified_at, now()) AS verified_at FROM replicas r \
                 WHERE r.object_id = v.object_id AND r.state = 'present' AND r.store = ANY($1) \
                 ORDER BY r.store <> f.storage_location, r.store <> $2, r.store LIMIT 1 \
             ) c ON true LEFT JOIN LATERAL ( \
                 SELECT r.store FROM replicas r \
                 WHERE r.object_id = v.object_id AND r.state = 'present' AND r.store <> ALL($1) \
                 ORDER BY r.store <> f.storage_location, r.store LIMIT 1 \
             ) l ON true \
             WHERE {files} \
         ) h WHERE h.id = f.id AND h.store IS NOT NULL \
           AND (f.storage_location <> h.store OR (f.synced_at IS NULL) <> (h.synced_at IS NULL))"
    ))
    .bind::<Array<Text>, _>(clouds)
    .bind::<Text, _>(cloud)
    .execute(conn)
    .await?;
    let mut values = Values::default();
    let which = format!(
        "r.store = ANY({}) AND r.spare_since IS NULL AND {objects} AND EXISTS ( \
             SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY({}) AND c.state = 'present')",
        values.texts(locals),
        values.texts(clouds)
    );
    values.query(&UPDATE_PRESENT.update("spare_since = now()", "", &which)).execute(conn).await?;
    Ok(())
}
