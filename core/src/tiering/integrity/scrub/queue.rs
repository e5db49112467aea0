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
    /// Whether copies are read that were found and could not be proved: before all others.
    is_unproved: bool,
    over: bool,
}

impl Queue {
    /// All copies verified before `before`.
    pub(super) fn new(stores: &[Store], before: DateTime<Utc>) -> Self {
        let line = |store: &Store| Line {
            store: store.clone(),
            waiting: VecDeque::new(),
            after: (DateTime::UNIX_EPOCH, ObjectId(Uuid::nil())),
            is_unproved: true,
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
        while self.waiting.is_empty() && !self.over {
            let items = retry_on_db_outage(async || {
                let mut conn = context.db.conn().await?;
                let store = self.store.name().as_str();
                if self.is_unproved {
                    replicas::unverified(&mut conn, store, self.after.1).await
                } else {
                    replicas::oldest_verified(&mut conn, store, before, self.after).await
                }
            })
            .await?;
            match items.last() {
                Some(last) => self.after = (last.verified_at.unwrap_or_default(), last.object_id),
                // The copies without a proof come first, in the order of their objects.
                None if self.is_unproved => {
                    self.is_unproved = false;
                    self.after = (DateTime::UNIX_EPOCH, ObjectId(Uuid::nil()));
                }
                None => self.over = true,
            }
            self.waiting = items.into();
        }
        Ok(())
    }
}
