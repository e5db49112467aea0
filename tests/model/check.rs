//! The invariants, checked against the actual content of the stores. [`each_step`] after every operation, [`settled`]
//! after everything had time to recover.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::file::Files;
use nightferry_core::ids::UserId;
use nightferry_tests::harness::database::texts;
use serde::Deserialize;
use uuid::Uuid;

use crate::op::Place;
use crate::operation;
use crate::oracle::{Oracle, Version};
use crate::truth::Contents;

/// Maximum duration of a lease in these worlds, in seconds.
pub(crate) const LEASE: u32 = 60;

type Verdict = Result<(), String>;

/// The contents of both stores.
pub(crate) type Truth = BTreeMap<Place, Contents>;

/// The state of the database, in one query.
#[derive(Debug, Deserialize)]
pub(crate) struct Map {
    replicas: Vec<Replica>,
    /// Objects that are being uploaded or removed: key and store.
    unstored: Vec<(String, String)>,
    objects: BTreeSet<Uuid>,
    runs: Vec<Run>,
    primary_stores: Vec<PrimaryStore>,
    used_bytes: i64,
    versions: i64,
}

#[derive(Debug, Deserialize)]
struct Replica {
    object: Uuid,
    key: String,
    store: String,
    state: String,
    /// Whether it has ever been verified.
    verified: bool,
    /// Seconds until its lease expires.
    lease: Option<f64>,
    stored: bool,
}

#[derive(Debug, Deserialize)]
struct Run {
    active: bool,
    total: i64,
    counted: [i64; 3],
    seen: [i64; 3],
}

#[derive(Debug, Deserialize)]
struct PrimaryStore {
    file: Uuid,
    store: String,
    synced: bool,
    present: Vec<String>,
}

/// Creates the function that returns everything that is checked. As a function it is planned once per connection, which
/// takes longer than running it.
pub(crate) const CREATE_MAP: &str = "CREATE FUNCTION observed.map() RETURNS json LANGUAGE plpgsql STABLE AS $$ BEGIN \
    RETURN (SELECT json_build_object( \
    'replicas', (SELECT coalesce(json_agg(json_build_object('object', r.object_id, 'key', o.key, 'store', r.store, \
        'state', r.state, 'verified', r.verified_at IS NOT NULL, 'lease', extract(epoch FROM r.lease_until - now()), 'stored', o.state = 'stored')), '[]') \
        FROM replicas r JOIN objects o ON o.id = r.object_id), \
    'unstored', (SELECT coalesce(json_agg(json_build_array(key, upload_store)), '[]') FROM objects WHERE state <> 'stored'), \
    'objects', (SELECT coalesce(json_agg(id), '[]') FROM objects WHERE state = 'stored'), \
    'runs', (SELECT coalesce(json_agg(json_build_object('active', u.finished_at IS NULL, \
        'total', u.files_total, 'counted', json_build_array(u.files_done, u.bytes_done, u.files_failed), \
        'seen', (SELECT json_build_array(count(*) FILTER (WHERE state = 'present'), \
            coalesce(sum(bytes) FILTER (WHERE state = 'present'), 0), count(*) FILTER (WHERE state = 'failed')) \
            FROM observed.ends e WHERE e.run_id = u.id))), '[]') FROM runs u), \
    'primary_stores', (SELECT coalesce(json_agg(json_build_object('file', f.id, 'store', f.storage_location, \
        'synced', f.synced_at IS NOT NULL, 'present', ARRAY(SELECT r.store FROM replicas r \
            WHERE r.object_id = v.object_id AND r.state = 'present'))), '[]') \
        FROM files f JOIN file_versions v ON v.file_id = f.id AND v.number = f.current_version), \
    'used_bytes', (SELECT coalesce(sum(used_bytes), 0) FROM users), \
    'versions', (SELECT count(*) FROM file_versions))); END $$";

impl Map {
    pub(crate) async fn read(context: &Context) -> Self {
        serde_json::from_str(&texts(&context.db, "SELECT observed.map()").await[0]).unwrap()
    }

    fn state(&self, object: Uuid, place: Place) -> Option<&str> {
        self.row(object, place).map(|row| row.state.as_str())
    }

    /// Whether an object should be in a store.
    pub(crate) fn wants(&self, object: Uuid, place: Place) -> bool {
        self.row(object, place).is_some()
    }

    /// Whether a row says that a key may be in a store.
    pub(crate) fn knows(&self, place: Place, key: &str) -> bool {
        self.replicas.iter().any(|row| row.key == key && row.store == place.name())
            || self.unstored.iter().any(|(known, store)| known == key && store == place.name())
    }

    /// Whether nothing is in progress.
    fn is_quiet(&self) -> bool {
        let busy = ["copying", "evicting"];
        self.unstored.is_empty()
            && !self.runs.iter().any(|run| run.active)
            && !self.replicas.iter().any(|row| busy.contains(&row.state.as_str()))
    }

    fn row(&self, object: Uuid, place: Place) -> Option<&Replica> {
        self.replicas.iter().find(|row| row.object == object && row.store == place.name())
    }
}

/// Checks after every operation.
pub(crate) fn each_step(oracle: &mut Oracle, truth: &Truth, map: &Map) -> Verdict {
    forget_repaired(oracle, truth, map);
    blame_the_store(oracle, truth, map);
    for version in oracle.kept() {
        is_somewhere(oracle, truth, map, version)?;
    }
    present_means_present(oracle, truth, map)?;
    findings_are_marked(oracle, truth, map)?;
    nothing_without_a_row(oracle, truth, map)?;
    recent_objects_are_kept(oracle, truth)?;
    counters_match_events(map)?;
    leases_are_bounded(map)?;
    primary_stores_have_copies(map)?;
    bytes_are_booked(oracle, map)
}

/// A copy that was destroyed and then made again, or is no longer required, can be destroyed again.
fn forget_repaired(oracle: &mut Oracle, truth: &Truth, map: &Map) {
    let versions = &oracle.versions;
    oracle.destroyed.retain(|(place, key)| {
        versions.iter().find(|version| version.key == *key).is_some_and(|version| {
            !holds(truth, *place, version) && map.state(version.object, *place).is_some()
        })
    });
}

/// A store that stores wrong content may do so with the data of a worker that hung and was replaced long ago.
fn blame_the_store(oracle: &mut Oracle, truth: &Truth, map: &Map) {
    if !(oracle.late && oracle.corrupting) {
        return;
    }
    for version in oracle.versions.iter().filter(|version| !version.purged) {
        for place in Place::ALL {
            let present = map.state(version.object, place) == Some("present");
            if present && truth[&place].contains_key(&version.key) && !holds(truth, place, version) {
                oracle.destroyed.insert((place, version.key.clone()));
            }
        }
    }
}

fn holds(truth: &Truth, place: Place, version: &Version) -> bool {
    truth[&place].get(&version.key) == Some(&version.sha256)
}

/// I1.
fn is_somewhere(oracle: &Oracle, truth: &Truth, map: &Map, version: &Version) -> Verdict {
    if !map.objects.contains(&version.object) {
        return Err(format!("I1: {} has no row", version.key));
    }
    let here =
        |place| holds(truth, place, version) || oracle.destroyed.contains(&(place, version.key.clone()));
    if Place::ALL.into_iter().any(here) {
        return Ok(());
    }
    Err(format!("I1: {} is in no store, and was not destroyed from outside", version.key))
}

/// I3.
fn present_means_present(oracle: &Oracle, truth: &Truth, map: &Map) -> Verdict {
    for row in map.replicas.iter().filter(|row| row.state == "present" && row.stored) {
        let Some(place) = Place::ALL.into_iter().find(|place| place.name() == row.store) else {
            return Err(format!("I3: a copy in an unknown store: {row:?}"));
        };
        let Some(version) = oracle.versions.iter().find(|version| version.object == row.object) else {
            return Err(format!("I3: {} was never acknowledged", row.key));
        };
        if !holds(truth, place, version) && !oracle.destroyed.contains(&(place, row.key.clone())) {
            return Err(format!("I3: {} is present in {}, but not there", row.key, row.store));
        }
    }
    Ok(())
}

/// I3, more strictly after a reconcile, even one that only reports: what it found missing counts as no copy.
fn findings_are_marked(oracle: &mut Oracle, truth: &Truth, map: &Map) -> Verdict {
    let Some(place) = oracle.reconciled.take() else { return Ok(()) };
    let mut present =
        map.replicas.iter().filter(|row| row.state == "present" && row.stored && row.store == place.name());
    match present.find(|row| !truth[&place].contains_key(&row.key)) {
        Some(row) => Err(format!("I3: {} was found missing in {}, and is still present", row.key, row.store)),
        None => Ok(()),
    }
}

/// I4. While a worker hangs that may still write, and afterwards, [`settled`] checks this.
fn nothing_without_a_row(oracle: &Oracle, truth: &Truth, map: &Map) -> Verdict {
    if oracle.late {
        return Ok(());
    }
    without_a_row(truth, map, |place, key| oracle.strays.contains(&(place, key.to_owned())))
}

/// I4, reversed: an unknown object is not touched until it is old enough.
fn recent_objects_are_kept(oracle: &Oracle, truth: &Truth) -> Verdict {
    for ((place, key), age) in &oracle.newborn {
        let is_young = Duration::from_secs((*age).into()) < operation::SAFETY_AGE;
        if is_young && !truth[place].contains_key(key) {
            return Err(format!("I4: {key} was deleted from {} when it was {age} s old", place.name()));
        }
    }
    Ok(())
}

fn without_a_row(truth: &Truth, map: &Map, is_known: impl Fn(Place, &str) -> bool) -> Verdict {
    for (place, contents) in truth {
        for key in contents.keys() {
            if !map.knows(*place, key) && !is_known(*place, key) {
                return Err(format!("I4: {key} is in {} without a row", place.name()));
            }
        }
    }
    Ok(())
}

/// I5.
fn counters_match_events(map: &Map) -> Verdict {
    for run in &map.runs {
        if run.counted != run.seen || run.counted[0] + run.counted[2] > run.total {
            return Err(format!(
                "I5: the counters of a run (done, bytes, failed) differ from its recorded changes: {run:?}"
            ));
        }
    }
    Ok(())
}

/// I6.
fn leases_are_bounded(map: &Map) -> Verdict {
    for row in &map.replicas {
        let leased = matches!(row.state.as_str(), "copying" | "evicting");
        if leased != row.lease.is_some() || row.lease.is_some_and(|left| left > f64::from(LEASE)) {
            return Err(format!("I6: its lease has expired: {row:?}"));
        }
    }
    Ok(())
}

fn primary_stores_have_copies(map: &Map) -> Verdict {
    for home in map.primary_stores.iter().filter(|home| !home.present.is_empty()) {
        let synced = home.present.iter().any(|store| store == Place::Cloud.name());
        if (home.store == Place::Cloud.name()) != synced || home.synced != synced {
            return Err(format!(
                "primary location of file {} is not a store with a copy: {home:?}",
                home.file
            ));
        }
    }
    Ok(())
}

fn bytes_are_booked(oracle: &Oracle, map: &Map) -> Verdict {
    let bytes: usize = oracle.kept().map(|version| version.bytes.len()).sum();
    let versions = oracle.kept().count();
    if map.used_bytes != bytes as i64 || map.versions != versions as i64 {
        let (booked, known) = (map.used_bytes, map.versions);
        return Err(format!(
            "I1: the usage is {booked} bytes in {known} versions instead of {bytes} in {versions}"
        ));
    }
    Ok(())
}

/// Checks when no store fails, no operation hangs, and every pass was made often enough.
pub(crate) async fn settled(
    files: &Files,
    owner: UserId,
    oracle: &mut Oracle,
    truth: &Truth,
    map: &Map,
) -> Verdict {
    each_step(oracle, truth, map)?;
    if !map.is_quiet() {
        return Err(format!("I6: some work does not end: {:#?} {:#?}", map.runs, map.replicas));
    }
    for row in map.replicas.iter().filter(|row| row.state == "present") {
        let version = oracle.versions.iter().find(|version| version.object == row.object).unwrap();
        let place = Place::ALL.into_iter().find(|place| place.name() == row.store).unwrap();
        if !holds(truth, place, version) {
            return Err(format!("I3: {} is missing in {}, and this was not detected", row.key, row.store));
        }
    }
    // A database without objects does not imply anything about the content of a store.
    let empty = map.objects.is_empty();
    // The last copy of an object is not deleted, even if it is no longer required.
    let is_last = |key: &str| {
        oracle.kept().any(|version| {
            let present = |place| map.state(version.object, place) == Some("present");
            version.key == key && !Place::ALL.into_iter().any(present)
        })
    };
    // What may be newer than a restored database is not deleted either.
    let is_unknown = |place: Place, key: &str| oracle.unknown.contains(&(place, key.to_owned()));
    without_a_row(truth, map, |place, key| empty || is_last(key) || is_unknown(place, key))?;
    for version in oracle.kept() {
        // Content that was sent and never verified does not count as a copy.
        let is_copy = |place| map.row(version.object, place).is_some_and(|row| row.verified);
        let whole = Place::ALL.into_iter().any(|place| holds(truth, place, version) && is_copy(place));
        let states: Vec<&str> =
            Place::ALL.into_iter().filter_map(|place| map.state(version.object, place)).collect();
        match (whole, states.contains(&"present")) {
            // The stores are asked for what a restored database does not know.
            (_, false)
                if oracle.rewinds > 0 && Place::ALL.into_iter().any(|place| holds(truth, place, version)) =>
            {
                return Err(format!(
                    "I1: {} is intact in a store that was not asked for it: {states:?}",
                    version.key
                ));
            }
            (false, false) if states.contains(&"lost") || states.contains(&"failed") => continue,
            (true, true) => {}
            _ => {
                return Err(format!("I1: {} is intact: {whole}, but has the states {states:?}", version.key));
            }
        }
        if oracle.is_live(version) {
            if map.state(version.object, Place::Cloud) != Some("present") {
                return Err(format!("I1: {} is never synced: {states:?}", version.key));
            }
            let read = operation::read(files, owner, version.file, Some(version.number)).await;
            if !read.as_ref().is_ok_and(|read| *read == version.sha256) {
                return Err(format!("I1: {} cannot be read: {read:?}", version.key));
            }
        }
    }
    Ok(())
}
