//! The stores as shown to operators: health, contents, and drains.

use chrono::{DateTime, Duration, Utc};

use crate::context::Context;
use crate::db::drains::{self, Drain};
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, StateCount};
use crate::db::store_health::{self, HealthReport};
use crate::db::unsigned;
use crate::error::Result;
use crate::store::{Store, StoreRole};

/// Health reports older than this, and than this many check intervals, are ignored.
const MAX_REPORT_AGE: Duration = Duration::seconds(30);
const MAX_MISSED_CHECKS: i32 = 4;

/// One store.
#[derive(Debug, Clone)]
pub struct StoreView {
    /// Name.
    pub name: String,
    /// Role.
    pub role: StoreRole,
    /// Whether it is the main store of its role.
    pub is_main: bool,
    /// Capacity in bytes; `None` without a limit.
    pub capacity: Option<u64>,
    /// Health as seen by the running processes; `None` if none has checked recently.
    pub health: Option<HealthReport>,
    /// Number and bytes of its replicas by state.
    pub states: Vec<StateCount>,
    /// Drain, if any.
    pub drain: Option<Drain>,
}

impl StoreView {
    /// `draining`, `drained`, `down`, `up`, or `unknown` if no process has checked recently.
    pub fn state(&self) -> &'static str {
        match (&self.drain, &self.health) {
            (Some(Drain { finished_at: Some(_), .. }), _) => "drained",
            (Some(_), _) => "draining",
            (None, Some(HealthReport { up: true, .. })) => "up",
            (None, Some(_)) => "down",
            (None, None) => "unknown",
        }
    }

    /// `up`, `down`, or `unknown` if no process has checked recently.
    pub fn health_word(&self) -> &'static str {
        match &self.health {
            Some(HealthReport { up: true, .. }) => "up",
            Some(_) => "down",
            None => "unknown",
        }
    }

    /// Bytes of its replicas.
    pub fn used(&self) -> u64 {
        self.sum(&[ReplicaState::Present, ReplicaState::Evicting], |row| row.bytes)
    }

    /// Replicas and bytes left to move.
    pub fn left(&self) -> (u64, u64) {
        let states = [ReplicaState::Present, ReplicaState::Evicting, ReplicaState::Lost];
        (self.sum(&states, |row| row.replicas), self.sum(&states, |row| row.bytes))
    }

    fn sum(&self, states: &[ReplicaState], of: fn(&StateCount) -> i64) -> u64 {
        self.states.iter().filter(|row| states.contains(&row.state)).map(of).map(unsigned).sum()
    }
}

/// Every configured store: the local ones first, the main one of each role first.
pub async fn list(context: &Context) -> Result<Vec<StoreView>> {
    let mut conn = context.db.conn().await?;
    let since = seen_since(context);
    let (counts, drains) = (replicas::count_by_state(&mut conn).await?, drains::all(&mut conn).await?);
    let opinions = store_health::opinions(&mut conn, since).await?;
    let of_role = |role| context.stores.with_role(role).into_iter().enumerate();
    let stores = of_role(StoreRole::Local).chain(of_role(StoreRole::Cloud));
    let view = |(number, store): (usize, &Store)| {
        let name = store.name().as_str();
        StoreView {
            name: name.to_owned(),
            role: store.role(),
            is_main: number == 0,
            capacity: context.config.capacity_of(name),
            health: opinions.iter().find(|opinion| opinion.store == name).cloned(),
            states: counts.iter().filter(|row| row.store == name).cloned().collect(),
            drain: drains.iter().find(|drain| drain.store == name).cloned(),
        }
    };
    Ok(stores.map(view).collect())
}

/// The minimum time of a health report to be considered.
pub(super) fn seen_since(context: &Context) -> DateTime<Utc> {
    let looks =
        Duration::from_std(context.config.health.interval).unwrap_or(MAX_REPORT_AGE) * MAX_MISSED_CHECKS;
    context.clock.now() - looks.max(MAX_REPORT_AGE)
}
