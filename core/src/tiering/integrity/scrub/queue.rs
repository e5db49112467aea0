//! The next copy to read: the oldest of all stores' oldest. Buffers a few rows of each store.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::context::Context;
use crate::db::replicas::{self, ToRead};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::store::Store;
use crate::tiering::db_outage::retry_on_db_outage;

pub(super) struct Queue {
    before: DateTime<Utc>,
    lines: Vec<Line>,
}

struct Line {
    store: Store,
    waiting: VecDeque<ToRead>,
    after: (DateTime<Utc>, ObjectId),
    over: bool,
}

impl Queue {
    /// All copies verified before `before`.
    pub(super) fn new(stores: &[Store], before: DateTime<Utc>) -> Self {
        let line = |store: &Store| Line {
            store: store.clone(),
            waiting: VecDeque::new(),
            after: (DateTime::UNIX_EPOCH, ObjectId(Uuid::nil())),
            over: false,
        };
        Self { before, lines: stores.iter().map(line).collect() }
    }

    /// The copy with the oldest verification, once.
    pub(super) async fn next(&mut self, context: &Context) -> Result<Option<(Store, ToRead)>> {
        for line in &mut self.lines {
            line.fill(context, self.before).await?;
        }
        let oldest = self
            .lines
            .iter_mut()
            .filter(|line| !line.waiting.is_empty())
            .min_by_key(|line| line.waiting.front().map(|item| item.verified_at));
        Ok(oldest.and_then(|line| Some((line.store.clone(), line.waiting.pop_front()?))))
    }

    /// Skips the rest of this store.
    pub(super) fn leave_out(&mut self, store: &Store) {
        self.lines.retain(|line| line.store.name() != store.name());
    }
}

impl Line {
    async fn fill(&mut self, context: &Context, before: DateTime<Utc>) -> Result<()> {
        if !self.waiting.is_empty() || self.over {
            return Ok(());
        }
        let items = retry_on_db_outage(async || {
            let mut conn = context.db.conn().await?;
            replicas::oldest_verified(&mut conn, self.store.name().as_str(), before, self.after).await
        })
        .await?;
        match items.last() {
            Some(last) => self.after = (last.verified_at, last.object_id),
            None => self.over = true,
        }
        self.waiting = items.into();
        Ok(())
    }
}
