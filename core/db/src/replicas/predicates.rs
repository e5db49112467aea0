//! Named conditions that several statements share. `row` is the alias of a row of `replicas`; `object`, `store` and
//! `stores` are SQL expressions.
//!
//! Subqueries end in `OFFSET 0`, which prevents the planner from reading a whole table once instead of one row for each
//! replica of a batch. Database functions are not an alternative: the planner cannot inline a function that contains a
//! subquery.

/// Condition: a copy is readable, which means that it is in no known archive class or is currently restored.
pub(crate) fn readable(row: &str) -> String {
    format!(
        "(coalesce({row}.storage_class, '') NOT IN ('GLACIER', 'DEEP_ARCHIVE') \
          OR EXISTS (SELECT 1 FROM restores a WHERE a.object_id = {row}.object_id AND a.store = {row}.store \
                     AND a.state = 'ready' AND coalesce(a.expires_at, 'infinity') > now()))"
    )
}

/// Condition: a replica `s` of an object is in one of these states and satisfies `which`.
pub(crate) fn has_replica(object: &str, states: &str, which: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = {object} AND s.state IN ({states}) AND {which} OFFSET 0)"
    )
}

/// Condition: an object has a verified replica `s` that satisfies `which`.
pub(crate) fn has_verified(object: &str, which: &str) -> String {
    has_replica(object, "'present'", which)
}

/// Condition: an object has a verified and readable replica `s` that satisfies `which`.
pub(crate) fn has_readable(object: &str, which: &str) -> String {
    has_verified(object, &format!("{which} AND {}", readable("s")))
}

/// Condition: no live file that has this object as a version is pinned.
pub(crate) fn not_pinned(object: &str) -> String {
    format!(
        "NOT EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
         WHERE v.object_id = {object} AND f.pinned AND f.deleted_at IS NULL OFFSET 0)"
    )
}

/// Condition: no copy in these stores is pending.
pub(crate) fn none_pending(object: &str, stores: &str) -> String {
    let in_these = format!("s.store = ANY({stores})");
    format!("NOT {}", has_replica(object, "'queued', 'copying', 'failed', 'lost'", &in_these))
}

/// Condition: a copy was never claimed, so that its store holds no part of it. Giving a copy back, or retrying it, sets
/// another time.
pub(crate) fn untouched(row: &str) -> String {
    format!(
        "{row}.state = 'queued' AND {row}.verified_at IS NULL AND {row}.upload_id IS NULL AND {row}.attempts = 0 \
         AND {row}.abandoned = 0 AND {row}.last_error IS NULL AND {row}.not_before = {row}.queued_at"
    )
}

/// Condition: a store is being drained, or was drained and stays empty.
pub(crate) fn is_draining(store: &str) -> String {
    format!("EXISTS (SELECT 1 FROM store_drains d WHERE d.store = {store} OFFSET 0)")
}

/// Condition: a store is not being drained, for statements that check many replicas.
pub(crate) fn is_kept(store: &str) -> String {
    format!("{store} <> ALL(ARRAY(SELECT d.store FROM store_drains d))")
}

/// Condition: a copy was found missing or wrong by a pass that only reports, and is not to be repaired yet.
pub(crate) fn is_suspect(row: &str) -> String {
    format!("({row}.state = 'lost' AND {row}.suspect_since IS NOT NULL)")
}

/// Condition: a copy is lost and to be repaired.
pub(crate) fn is_lost(row: &str) -> String {
    format!("({row}.state = 'lost' AND {row}.suspect_since IS NULL)")
}

/// Condition: a row is a repair that belongs to no run.
pub(crate) fn waiting_repair(row: &str) -> String {
    format!("{row}.state = 'queued' AND {row}.run_id IS NULL AND {row}.copy_reason = 'repair'")
}
