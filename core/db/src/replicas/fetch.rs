//! On-demand copies, outside of any run: queued for the local store by readers, and claimed like those of a run.

use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::ObjectRow;
use super::predicates::{has_readable, has_replica, is_kept};
use super::transitions::{IfThere, Queue};
use crate::enums::CopyReason;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::listen;
use crate::statement::{Value, Values};

/// Why a copy is prefetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchReason {
    /// The copy was requested.
    Prefetch,
    /// The file was read from the cloud store.
    CacheOnRead,
}

/// Queues copies of these objects, of at most `largest` bytes each, for the store `local`, unless one of the stores
/// `locals` has or will have one, and notifies the workers. A failed copy is retried immediately by a prefetch, and
/// after an hour by a read. Existing and queued copies are left unchanged. Returns the queued copies.
pub async fn queue_fetches(
    conn: &mut AsyncPgConnection,
    local: &str,
    locals: &[&str],
    fetch_reason: FetchReason,
    objects: &[ObjectId],
    largest: Option<i64>,
) -> Result<Vec<ObjectId>> {
    let mut values = Values::default();
    let (local, locals, objects) = (values.text(local), values.texts(locals), values.ids(objects));
    let largest = values.bind(Value::Number(largest));
    // Requests with a waiting user come first.
    let (reason, priority, if_there) = match fetch_reason {
        FetchReason::Prefetch => (CopyReason::Prefetch, "1", IfThere::First),
        FetchReason::CacheOnRead => {
            let an_hour_ago = IfThere::AgainByRule("r.not_before < now() - interval '1 hour'");
            (CopyReason::CacheOnRead, "0", an_hour_ago)
        }
    };
    let kept = is_kept("s.store");
    let from = format!(
        "FROM objects o WHERE o.id = ANY({objects}) AND o.state = 'stored' AND ({largest} IS NULL OR o.size <= {largest}) \
           AND {} AND NOT {} ORDER BY o.id",
        has_readable("o.id", &format!("s.store <> {local}")),
        has_replica(
            "o.id",
            "'queued', 'copying', 'present'",
            &format!("s.store <> {local} AND s.store = ANY({locals}) AND {kept}")
        ),
    );
    let queue = Queue::on_demand("o.id", &local, reason, priority);
    let sql = format!("{} RETURNING r.object_id", queue.insert(&from, if_there));
    let queued = ObjectRow::ids(values.query(&sql).load(conn).await?);
    if !queued.is_empty() {
        listen::notify(conn, listen::RUNS, "fetch").await?;
    }
    Ok(queued)
}
