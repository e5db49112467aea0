//! The invariants that must hold after every test, checked against the stores themselves, not against the database.

use std::collections::{BTreeMap, BTreeSet};

use diesel::sql_types::{BigInt, Bool, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::{StreamExt, stream};
use nightferry_core::checksum::Sha256Hasher;
use nightferry_core::db::{Database, runs};
use nightferry_core::encryption::{EncryptionEnvelope, plain_size};
use nightferry_core::file::download;
use nightferry_core::ids::{FileId, UserId};
use nightferry_core::object::crypto::{self, ObjectRef};
use nightferry_core::store::{CANARY_PREFIX, IDENTITY_KEY, ObjectKey, SNAPSHOT_PREFIX, Store, StoreRole};
use nightferry_core::tiering::reap;
use uuid::Uuid;

use super::world::read;
use super::{World, database};

/// Number of objects hashed concurrently.
const AT_ONCE: usize = 4;

/// Checks all of them. Call it when the faults are removed and no worker is running: it reaps first.
pub async fn assert_invariants(world: &World) {
    assert_no_lease_without_a_worker(world).await;
    reap::pass(&world.context).await.unwrap();
    let replicas = replicas(world).await;
    assert_present_means_present(world, &replicas).await;
    assert_nothing_without_a_row(world, &replicas).await;
    assert_counters_match_events(world).await;
    assert_counts_match_rows(world).await;
    assert_files_are_readable(world).await;
}

/// The counts kept by the database are those of the rows.
pub async fn assert_counts_match_rows(world: &World) {
    let kept = "SELECT concat_ws(' ', store, state, is_verified, is_suspect, replicas, bytes) FROM replica_totals \
                WHERE replicas <> 0 OR bytes <> 0 ORDER BY 1";
    let counted = "SELECT concat_ws(' ', r.store, r.state, r.verified_at IS NOT NULL, \
                       r.state = 'lost' AND r.suspect_since IS NOT NULL, count(*), coalesce(sum(o.size), 0)) \
                   FROM replicas r JOIN objects o ON o.id = r.object_id \
                   GROUP BY r.store, r.state, r.verified_at IS NOT NULL, \
                       r.state = 'lost' AND r.suspect_since IS NOT NULL ORDER BY 1";
    // In one snapshot, because a worker may be running.
    let differ = format!(
        "SELECT x.text FROM (SELECT text, sum(one) AS n FROM ( \
             SELECT text, 1 AS one FROM ({kept}) k (text) UNION ALL SELECT text, -1 FROM ({counted}) c (text) \
         ) b GROUP BY text HAVING sum(one) <> 0) x"
    );
    assert_eq!(database::texts(&world.context.db, &differ).await, Vec::<String>::new());
}

#[derive(Debug, diesel::QueryableByName)]
struct ReplicaRow {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    store: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    size: Option<i64>,
    #[diesel(sql_type = Nullable<Bytea>)]
    sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    upload_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    key_id: Option<String>,
    #[diesel(sql_type = Nullable<Bytea>)]
    envelope: Option<Vec<u8>>,
}

async fn replicas(world: &World) -> Vec<ReplicaRow> {
    let mut conn = world.context.db.conn().await.unwrap();
    diesel::sql_query(
        "SELECT o.key, r.store, r.state::text AS state, o.size, o.sha256, r.upload_id, r.key_id, r.envelope \
         FROM replicas r JOIN objects o ON o.id = r.object_id \
         UNION ALL SELECT key, upload_store, state::text, size, sha256, upload_id, NULL, NULL FROM objects \
         WHERE state <> 'stored'",
    )
    .load(&mut conn)
    .await
    .unwrap()
}

/// I6: nothing stays in `copying` or `evicting` without a holder of its lease.
async fn assert_no_lease_without_a_worker(world: &World) {
    let left = super::database::texts(
        &world.context.db,
        "SELECT concat_ws(' ', r.object_id, r.store, r.state, r.lease_until) FROM replicas r \
         WHERE r.state IN ('copying', 'evicting') \
           AND (r.lease_until < now() OR NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = r.lease_worker))",
    )
    .await;
    assert!(left.is_empty(), "leases without a holder: {left:#?}");
}

/// I3: a `present` row has its object, byte for byte; if it is encrypted, its key decrypts it.
async fn assert_present_means_present(world: &World, replicas: &[ReplicaRow]) {
    let present: Vec<&ReplicaRow> = replicas.iter().filter(|row| row.state == "present").collect();
    let wrong: Vec<String> = stream::iter(present)
        .map(async |row| {
            let store = world.direct.get(&row.store).unwrap();
            let key = ObjectKey::parse(&row.key).unwrap();
            let head = store.head(&key).await.unwrap();
            let stored = head.map(|head| head.size);
            let envelope = EncryptionEnvelope::from_columns(row.key_id.clone(), row.envelope.clone());
            let size = match envelope {
                None => stored.map(|size| i64::try_from(size).unwrap()),
                Some(_) => stored.and_then(plain_size).map(|size| i64::try_from(size).unwrap()),
            };
            let hash = if envelope.is_none() {
                read(store, &key).await
            } else {
                let size = row.size.unwrap().try_into().unwrap();
                let wanted = ObjectRef { key: &key, size, envelope: envelope.as_ref() };
                let hashed = crypto::hash(store, wanted, |_| std::future::ready(())).await;
                hashed.ok().map(|hashed| hashed.sha256)
            };
            let hash = hash.map(|hash| hash.as_bytes().to_vec());
            (size != row.size || hash != row.sha256)
                .then(|| format!("{} holds {size:?} bytes, not those of {row:?}", row.store))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(wrong.is_empty(), "present, but missing in the store: {wrong:#?}");
}

/// I4: everything in a store has a row, including unfinished uploads.
async fn assert_nothing_without_a_row(world: &World, replicas: &[ReplicaRow]) {
    for store in world.direct.all() {
        let here = || replicas.iter().filter(|row| row.store == store.name().as_str());
        let keys: BTreeSet<&str> = here().map(|row| row.key.as_str()).collect();
        let orphans: Vec<String> =
            listed(store).await.into_iter().filter(|key| !keys.contains(key.as_str())).collect();
        assert!(orphans.is_empty(), "{} holds objects without a row: {orphans:#?}", store.name());
        let known: BTreeSet<&str> = here().filter_map(|row| row.upload_id.as_deref()).collect();
        let unfinished: Vec<_> = store
            .list_multipart_uploads("")
            .await
            .unwrap()
            .into_iter()
            .filter(|upload| !known.contains(upload.upload_id.as_str()))
            .collect();
        assert!(unfinished.is_empty(), "{} holds uploads without a row: {unfinished:#?}", store.name());
    }
}

/// Every key of a store, except those of snapshots, canaries and the identity.
async fn listed(store: &Store) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list("", after.as_deref(), 1000).await.unwrap();
        let keys_of_page = page.objects.into_iter().map(|object| object.key);
        // They have no row.
        keys.extend(keys_of_page.filter(|key| {
            let prefixes = [SNAPSHOT_PREFIX, CANARY_PREFIX, IDENTITY_KEY];
            !prefixes.iter().any(|prefix| key.starts_with(prefix))
        }));
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
}

#[derive(Debug, diesel::QueryableByName)]
struct Made {
    #[diesel(sql_type = SqlUuid)]
    run_id: Uuid,
    #[diesel(sql_type = BigInt)]
    done: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    failed: i64,
}

/// Records in the database how each copy of a run ends, when it happens: files that are purged later, or lost and
/// repaired by another run, leave no trace in other tables.
pub(super) async fn observe(db: &Database) {
    for sql in [
        "CREATE SCHEMA observed",
        "CREATE TABLE observed.ends (run_id uuid NOT NULL, state text NOT NULL, bytes bigint NOT NULL)",
        "CREATE FUNCTION observed.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO observed.ends SELECT NEW.run_id, NEW.state, o.size FROM public.objects o \
             WHERE o.id = NEW.object_id; \
             RETURN NULL; END $$",
        "CREATE TRIGGER observed AFTER UPDATE OF state ON replicas FOR EACH ROW \
             WHEN (OLD.state = 'copying' AND NEW.state IN ('present', 'failed') AND NEW.run_id IS NOT NULL) \
             EXECUTE FUNCTION observed.note()",
    ] {
        super::database::execute(db, sql).await.unwrap();
    }
}

/// I5: the counters of a run equal the copies that it made and that failed.
async fn assert_counters_match_events(world: &World) {
    let mut conn = world.context.db.conn().await.unwrap();
    let made: Vec<Made> = diesel::sql_query(
        "SELECT r.id AS run_id, count(*) FILTER (WHERE e.state = 'present') AS done, \
                coalesce(sum(e.bytes) FILTER (WHERE e.state = 'present'), 0)::bigint AS bytes, \
                count(*) FILTER (WHERE e.state = 'failed') AS failed \
         FROM runs r LEFT JOIN observed.ends e ON e.run_id = r.id GROUP BY r.id",
    )
    .load(&mut conn)
    .await
    .unwrap();
    for made in made {
        let run = runs::find(&mut conn, nightferry_core::ids::RunId(made.run_id)).await.unwrap().unwrap();
        let counted = (run.files_done, run.bytes_done, run.files_failed);
        let happened = (made.done, made.bytes, made.failed);
        assert_eq!(counted, happened, "counters (done, bytes, failed) and recorded changes: {run:#?}");
        assert!(run.files_done + run.files_failed <= run.files_total, "{run:#?}");
        assert_eq!(run.status.is_active(), run.finished_at.is_none());
    }
}

#[derive(Debug, diesel::QueryableByName)]
struct FileRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    owner_id: Uuid,
    #[diesel(sql_type = Text)]
    storage_location: String,
    #[diesel(sql_type = Bool)]
    synced: bool,
    #[diesel(sql_type = Nullable<Bytea>)]
    sha256: Option<Vec<u8>>,
    #[diesel(sql_type = diesel::sql_types::Array<Text>)]
    replicas: Vec<String>,
}

/// I1: the current version of every file is readable with the right hash, or all its replicas are known to be lost; and
/// its primary location matches its replicas.
async fn assert_files_are_readable(world: &World) {
    let mut conn = world.context.db.conn().await.unwrap();
    let files: Vec<FileRow> = diesel::sql_query(
        "SELECT f.id, f.owner_id, f.storage_location, f.synced_at IS NOT NULL AS synced, o.sha256, \
                ARRAY(SELECT r.store || ' ' || r.state FROM replicas r WHERE r.object_id = o.id) AS replicas \
         FROM files f JOIN file_versions v ON v.file_id = f.id AND v.number = f.current_version \
         JOIN objects o ON o.id = v.object_id WHERE f.deleted_at IS NULL",
    )
    .load(&mut conn)
    .await
    .unwrap();
    drop(conn);
    for file in files {
        let at = |place: &str| file.replicas.iter().any(|replica| replica == place);
        if !file.replicas.iter().any(|replica| replica.ends_with(" present")) {
            assert!(file.replicas.iter().any(|replica| replica.ends_with(" lost")), "in no store: {file:?}");
            continue;
        }
        let clouds = world.context.stores.names_with(StoreRole::Cloud);
        let at_cloud = clouds.iter().any(|store| at(&format!("{store} present")));
        assert_eq!(clouds.contains(&file.storage_location.as_str()), at_cloud, "{file:?}");
        assert_eq!(file.synced, at_cloud, "{file:?}");
        let target =
            download::find(&world.context, UserId(file.owner_id), FileId(file.id), None).await.unwrap();
        let mut body = download::open(&world.services.files, &target, None).await.unwrap();
        let mut hasher = Sha256Hasher::new();
        while let Some(chunk) = body.next().await {
            hasher.update(&chunk.unwrap_or_else(|error| panic!("{file:?}: {error}")));
        }
        assert_eq!(Some(hasher.finish().as_bytes().to_vec()), file.sha256, "{file:?}");
    }
}

/// The states of the replicas of a world, as `store state` with a count, for short assertions.
pub async fn states(world: &World) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for row in replicas(world).await {
        *states.entry(format!("{} {}", row.store, row.state)).or_default() += 1;
    }
    states
}
