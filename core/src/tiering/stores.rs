//! The stores as an operator sees them: how well each is, what it holds, and whether it is being emptied.

use chrono::{DateTime, Duration, Utc};

use crate::context::Context;
use crate::db::drains::{self, Drain};
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, StateCount};
use crate::db::store_health::{self, Opinion};
use crate::db::unsigned;
use crate::error::Result;
use crate::store::{Store, StoreRole};

/// What a process saw longer ago than this, and so many looks, is not believed any more.
const FRESH: Duration = Duration::seconds(30);
const LOOKS: i32 = 4;

/// One store.
#[derive(Debug, Clone)]
pub struct StoreView {
    /// Name.
    pub name: String,
    /// Role.
    pub role: StoreRole,
    /// Whether it is the first of its role to be used.
    pub is_main: bool,
    /// Bytes that it may hold; none where there is no limit.
    pub capacity: Option<u64>,
    /// How the running processes see it; none when none has looked lately.
    pub health: Option<Opinion>,
    /// Number and bytes of its replicas in each state that occurs.
    pub states: Vec<StateCount>,
    /// Whether it is being emptied, or is empty and stays so.
    pub drain: Option<Drain>,
}

impl StoreView {
    /// `draining`, `drained`, `down`, `up`, or `unknown` when no process has looked lately.
    pub fn state(&self) -> &'static str {
        match (&self.drain, &self.health) {
            (Some(Drain { finished_at: Some(_), .. }), _) => "drained",
            (Some(_), _) => "draining",
            (None, Some(Opinion { up: true, .. })) => "up",
            (None, Some(_)) => "down",
            (None, None) => "unknown",
        }
    }

    /// `up`, `down`, or `unknown` when no process has looked lately.
    pub fn health_word(&self) -> &'static str {
        match &self.health {
            Some(Opinion { up: true, .. }) => "up",
            Some(_) => "down",
            None => "unknown",
        }
    }

    /// Bytes of the replicas that lie there.
    pub fn used(&self) -> u64 {
        self.sum(&[ReplicaState::Present, ReplicaState::Evicting], |row| row.bytes)
    }

    /// What is still to be moved, as replicas and bytes.
    pub fn left(&self) -> (u64, u64) {
        let states = [ReplicaState::Present, ReplicaState::Evicting, ReplicaState::Lost];
        (self.sum(&states, |row| row.replicas), self.sum(&states, |row| row.bytes))
    }

    fn sum(&self, states: &[ReplicaState], of: fn(&StateCount) -> i64) -> u64 {
        self.states.iter().filter(|row| states.contains(&row.state)).map(of).map(unsigned).sum()
    }
}

/// Every configured store: the local ones first, the main one of each role first. Counts all replicas: not for every second.
///
/// # Errors
/// Whatever the database meets.
pub async fn list(context: &Context) -> Result<Vec<StoreView>> {
    let since = seen_since(context);
    let mut conn = context.db.conn().await?;
    let (counts, drains) = (replicas::count_by_state(&mut conn).await?, drains::all(&mut conn).await?);
    let opinions = store_health::opinions(&mut conn, since).await?;
    let of_role = |role| context.stores.with_role(role).into_iter().enumerate();
    let stores = of_role(StoreRole::Local).chain(of_role(StoreRole::Cloud));
    Ok(stores.map(|(number, store)| view(context, store, number == 0, &counts, &drains, &opinions)).collect())
}

/// From when on it counts what a process saw of a store.
pub(super) fn seen_since(context: &Context) -> DateTime<Utc> {
    let looks = Duration::from_std(context.config.health.interval).unwrap_or(FRESH) * LOOKS;
    context.clock.now() - looks.max(FRESH)
}

fn view(
    context: &Context,
    store: &Store,
    is_main: bool,
    counts: &[StateCount],
    drains: &[Drain],
    opinions: &[Opinion],
) -> StoreView {
    let name = store.name().as_str();
    StoreView {
        name: name.to_owned(),
        role: store.role(),
        is_main,
        capacity: context.config.capacity_of(name),
        health: opinions.iter().find(|opinion| opinion.store == name).cloned(),
        states: counts.iter().filter(|row| row.store == name).cloned().collect(),
        drain: drains.iter().find(|drain| drain.store == name).cloned(),
    }
}
