//! Conditions that several statements share, each under its name. `row` is the alias of a row of `replicas`; `object`, `store`
//! and `stores` are expressions.
//!
//! Subqueries end in `OFFSET 0`: it keeps the planner from reading a whole table once instead of a row for each replica of a
//! batch, whatever it takes for cheaper. Functions in the database would not do: the planner does not look into one that holds
//! a subquery.

/// That a copy can be read: it is in no archive class that is known of, or is restored at this moment.
pub(in crate::db) fn readable(row: &str) -> String {
    format!(
        "(coalesce({row}.storage_class, '') NOT IN ('GLACIER', 'DEEP_ARCHIVE') \
          OR EXISTS (SELECT 1 FROM restores a WHERE a.object_id = {row}.object_id AND a.store = {row}.store \
                     AND a.state = 'ready' AND coalesce(a.expires_at, 'infinity') > now()))"
    )
}

/// That a replica `s` of an object is in one of these states, and that `which` holds of it.
pub(in crate::db) fn has_replica(object: &str, states: &str, which: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = {object} AND s.state IN ({states}) AND {which} OFFSET 0)"
    )
}

/// That an object has a verified replica `s` of which `which` holds.
pub(in crate::db) fn has_verified(object: &str, which: &str) -> String {
    has_replica(object, "'present'", which)
}

/// That an object has a verified replica `s` that can be read, of which `which` holds.
pub(in crate::db) fn has_readable(object: &str, which: &str) -> String {
    has_verified(object, &format!("{which} AND {}", readable("s")))
}

/// That no live file with this object as one of its versions is pinned.
pub(in crate::db) fn not_pinned(object: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
         WHERE v.object_id = {object} AND f.pinned AND f.deleted_at IS NULL OFFSET 0)"
    )
}

/// That no copy in these stores is still to be made.
pub(in crate::db) fn none_pending(object: &str, stores: &str) -> String {
    let in_these = format!("s.store = ANY({stores})");
    format!("NOT {}", has_replica(object, "'queued', 'copying', 'failed', 'lost'", &in_these))
}

/// That nobody has ever claimed a copy, so that nothing of it can lie in its store: whoever gives one back, or takes one up
/// again, sets another time.
pub(in crate::db) fn untouched(row: &str) -> String {
    format!(
        "{row}.state = 'queued' AND {row}.verified_at IS NULL AND {row}.upload_id IS NULL AND {row}.attempts = 0 \
         AND {row}.abandoned = 0 AND {row}.last_error IS NULL AND {row}.not_before = {row}.queued_at"
    )
}

/// That a store is being emptied, or is empty and stays so.
pub(in crate::db) fn is_draining(store: &str) -> String {
    format!("EXISTS (SELECT 1 FROM store_drains d WHERE d.store = {store} OFFSET 0)")
}

/// That a store is not being emptied, for statements that look at many replicas.
pub(in crate::db) fn is_kept(store: &str) -> String {
    format!("{store} <> ALL(ARRAY(SELECT d.store FROM store_drains d))")
}

/// That a row is a repair that no run carries.
pub(in crate::db) fn waiting_repair(row: &str) -> String {
    format!("{row}.state = 'queued' AND {row}.run_id IS NULL AND {row}.copy_reason = 'repair'")
}
