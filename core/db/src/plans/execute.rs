//! Executes a plan in steps: each queues a bounded number of its items for a run.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Position;
use crate::enums::CopyReason;
use crate::error::Result;
use crate::ids::{ObjectId, PlanId, RunId};
use crate::replicas::{Amount, IfThere, PlannedStep, Queue};
use crate::statement::Values;

/// Items queued in one statement.
const PIECE: i64 = 5_000;

/// A plan that is being executed.
#[derive(Debug)]
pub struct Execution {
    plan: PlanId,
    run: RunId,
    after: Position,
}

/// The result of one statement.
#[derive(QueryableByName)]
struct Piece {
    #[diesel(sql_type = Array<SqlUuid>)]
    objects: Vec<ObjectId>,
    #[diesel(sql_type = Nullable<Text>)]
    last_store: Option<String>,
    #[diesel(sql_type = BigInt)]
    files: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl Execution {
    /// Starts at the first item.
    pub const fn new(plan: PlanId, run: RunId) -> Self {
        let after = Position { object: ObjectId(uuid::Uuid::nil()), store: String::new() };
        Self { plan, run, after }
    }

    /// Queues the next items; `None` at the end. Items that have become impossible since the last check are skipped, and
    /// those that are queued for the run already are not counted again. Part of a transaction that has locked the row
    /// of the run.
    ///
    /// # Errors
    /// Any database error.
    pub async fn step(&mut self, conn: &mut AsyncPgConnection) -> Result<Option<PlannedStep>> {
        let mut values = Values::default();
        let (plan, run) = (values.id(self.plan), values.id(self.run));
        let (object, store) = (values.id(self.after.object), values.text(self.after.store.as_str()));
        let queue = Queue {
            object: "i.object_id",
            store: "i.store",
            reason: CopyReason::Policy,
            run: Some(&run),
            rule: Some("i.rule"),
            storage_class: Some("i.storage_class"),
            priority: "i.priority",
        };
        let items = "FROM piece i JOIN objects o ON o.id = i.object_id AND o.state = 'stored'";
        // Queued and failed copies are taken over, as in planning.
        let waits = format!("(r.state <> 'queued' OR r.run_id IS DISTINCT FROM {run})");
        let sql = format!(
            "WITH piece AS MATERIALIZED ( \
                 SELECT object_id, store, rule, storage_class, priority FROM plan_items \
                 WHERE plan_id = {plan} AND (object_id, store) > ({object}, {store}) \
                 ORDER BY object_id, store LIMIT {PIECE} \
             ), added AS ({} RETURNING r.object_id) \
             SELECT ARRAY(SELECT object_id FROM piece ORDER BY object_id, store) AS objects, \
                    (SELECT store FROM piece ORDER BY object_id DESC, store DESC LIMIT 1) AS last_store, \
                    count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
             FROM added a JOIN objects o ON o.id = a.object_id",
            queue.insert(items, IfThere::TakeOver(&waits))
        );
        let piece: Piece = values.query(&sql).get_result(conn).await?;
        let (Some(object), Some(store)) = (piece.objects.last().copied(), piece.last_store) else {
            return Ok(None);
        };
        self.after = Position { object, store };
        let added = Amount { files: piece.files, bytes: piece.bytes };
        Ok(Some(PlannedStep { added, objects: piece.objects }))
    }
}
