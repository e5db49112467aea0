//! Computes the moves: the usage of the local stores, which of them are included, and which files to move. Changes
//! nothing.

use super::balance::{self, Load};
use crate::context::Context;
use crate::db::replicas::{self, Held, Movable};
use crate::db::store_health::{self, HealthReport};
use crate::db::{drains, unsigned};
use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::store::StoreRole;
use crate::tiering::stores::seen_since;

/// Replicas examined in one statement.
pub(super) const BATCH: i64 = 5_000;
/// The id before every object.
pub(super) const FIRST: ObjectId = ObjectId(uuid::Uuid::nil());

/// Why a store is excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum Exclusion {
    /// The store is being drained, or is drained.
    #[strum(to_string = "it is being drained")]
    Draining,
    /// The store is unhealthy for at least one process.
    #[strum(to_string = "it is down")]
    Unhealthy,
    /// The store is suspect for at least one process.
    #[strum(to_string = "it is suspect")]
    Suspect,
}

impl Exclusion {
    /// The keyword for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Suspect => "suspect",
        }
    }
}

/// The current and resulting usage of one store.
#[derive(Debug, Clone)]
pub struct Share {
    /// Name.
    pub name: String,
    /// Capacity in bytes, if limited.
    pub capacity: Option<u64>,
    /// Bytes present.
    pub used: u64,
    /// Bytes after everything in progress, and these moves.
    pub after: u64,
    /// Current share in tenths of a percent: of its capacity, or else of the total. `None` if it is excluded.
    pub share: Option<u32>,
    /// The share after the moves.
    pub share_after: Option<u32>,
    /// Why it is excluded, if it is.
    pub excluded: Option<Exclusion>,
}

/// The moves from one store to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last examined object.
    until: ObjectId,
}

/// The computed moves.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Percentage by which a share may differ from the mean.
    pub tolerance: u8,
    /// Whether shares are relative to the capacity; otherwise to the total.
    pub by_capacity: bool,
    /// The local stores, the main one first.
    pub stores: Vec<Share>,
    /// The plan.
    pub shifts: Vec<Shift>,
}

impl Share {
    /// Tenths of a percent as percent.
    pub fn per_cent(tenths: u32) -> f64 {
        f64::from(tenths) / 10.0
    }
}

impl Plan {
    /// The basis of the shares: `capacity`, or `bytes` for the total.
    pub fn measure(&self) -> &'static str {
        if self.by_capacity { "capacity" } else { "bytes" }
    }

    /// The included stores.
    pub fn taking_part(&self) -> impl Iterator<Item = &Share> {
        self.stores.iter().filter(|store| store.excluded.is_none())
    }

    /// Total files and bytes.
    pub fn total(&self) -> (u64, u64) {
        self.shifts.iter().fold((0, 0), |(files, bytes), shift| (files + shift.files, bytes + shift.bytes))
    }
}

/// The moves for this tolerance in percent. Counts all replicas of the local stores, and examines as many as would be
/// moved: do not call it every second.
///
/// # Errors
/// [`Error::Validation`] for a tolerance above 100; any database error.
pub async fn plan(context: &Context, tolerance: u8) -> Result<Plan> {
    if tolerance > 100 {
        return Err(Error::field("tolerance", "must be a whole number from 0 to 100"));
    }
    let mut stores = stores(context).await?;
    let taking_part: Vec<(String, Load)> = stores
        .iter()
        .filter(|store| store.excluded.is_none())
        .map(|store| (store.name.clone(), Load { bytes: store.after, capacity: store.capacity }))
        .collect();
    let loads: Vec<Load> = taking_part.iter().map(|(_, load)| *load).collect();
    let mut shifts: Vec<Shift> = Vec::new();
    for shift in balance::even_out(&loads, tolerance) {
        let name = |place: usize| taking_part.get(place).map_or("", |(name, _)| name.as_str());
        let (from, to) = (name(shift.from), name(shift.to));
        // Files selected for one destination are not selected again for another.
        let after = shifts.iter().rev().find(|it| it.from == from).map_or(FIRST, |it| it.until);
        let picked = pick(context, from, to, shift, after).await?;
        if picked.files > 0 {
            shifts.push(picked);
        }
    }
    for store in &mut stores {
        let sum = |of: fn(&Shift) -> &str| -> u64 {
            shifts.iter().filter(|shift| of(shift) == store.name).map(|shift| shift.bytes).sum()
        };
        store.after = (store.after + sum(|shift| &shift.to)).saturating_sub(sum(|shift| &shift.from));
    }
    let by_capacity = balance::by_capacity(&loads);
    note_shares(&mut stores, by_capacity);
    Ok(Plan { tolerance, by_capacity, stores, shifts })
}

/// The local stores with their current usage, and their usage if nothing is done.
async fn stores(context: &Context) -> Result<Vec<Share>> {
    let names = context.stores.names_with(StoreRole::Local);
    let since = seen_since(context);
    let mut conn = context.db.conn().await?;
    let (held, draining) = (replicas::held(&mut conn, &names).await?, drains::names(&mut conn).await?);
    let opinions = store_health::opinions(&mut conn, since).await?;
    let share = |name: &&str| {
        let held: Option<&Held> = held.iter().find(|held| held.store == **name);
        let opinion = opinions.iter().find(|opinion| opinion.store == **name);
        Share {
            name: (*name).to_owned(),
            capacity: context.config.capacity_of(name),
            used: held.map_or(0, |held| unsigned(held.used)),
            after: held.map_or(0, |held| unsigned(held.expected)),
            share: None,
            share_after: None,
            excluded: if draining.iter().any(|it| it == name) {
                Some(Exclusion::Draining)
            } else {
                opinion.and_then(suspects)
            },
        }
    };
    Ok(names.iter().map(share).collect())
}

fn suspects(opinion: &HealthReport) -> Option<Exclusion> {
    if !opinion.up {
        return Some(Exclusion::Unhealthy);
    }
    opinion.last_error.is_some().then_some(Exclusion::Suspect)
}

fn note_shares(stores: &mut [Share], by_capacity: bool) {
    let mut taking_part: Vec<&mut Share> =
        stores.iter_mut().filter(|store| store.excluded.is_none()).collect();
    let (used, after) =
        taking_part.iter().fold((0, 0), |(used, after), store| (used + store.used, after + store.after));
    for store in &mut taking_part {
        let capacity = store.capacity.filter(|_| by_capacity);
        store.share = Some(balance::permille(store.used, capacity.unwrap_or(used)));
        store.share_after = Some(balance::permille(store.after, capacity.unwrap_or(after)));
    }
}

async fn pick(
    context: &Context,
    from: &str,
    to: &str,
    shift: balance::Shift,
    after: ObjectId,
) -> Result<Shift> {
    let mut picked = Shift { from: from.to_owned(), to: to.to_owned(), files: 0, bytes: 0, until: after };
    while shift.bytes - picked.bytes > shift.slack {
        let seen = replicas::movable(&mut *context.db.conn().await?, from, to, picked.until, BATCH).await?;
        let fit = fit(&seen, shift.bytes - picked.bytes, shift.slack, usize::MAX);
        let Some(until) = fit.until else { break };
        picked.until = until;
        picked.files += u64::try_from(fit.objects.len()).unwrap_or(u64::MAX);
        picked.bytes += fit.bytes;
    }
    Ok(picked)
}

/// A selection of replicas.
#[derive(Debug, Default)]
pub(super) struct Fit {
    pub(super) objects: Vec<ObjectId>,
    /// Their bytes.
    pub(super) bytes: u64,
    /// The last examined one; `None` if there was none.
    pub(super) until: Option<ObjectId>,
}

/// Selects replicas that fit into `room` bytes, in order, until only `slack` is left or there are `most`.
pub(super) fn fit(seen: &[Movable], room: u64, slack: u64, most: usize) -> Fit {
    let mut fit = Fit::default();
    for replica in seen {
        if room - fit.bytes <= slack || fit.objects.len() >= most {
            break;
        }
        fit.until = Some(replica.object_id);
        let size = unsigned(replica.size);
        // Empty objects do not change the usage.
        if replica.may_move && size > 0 && size <= room - fit.bytes {
            fit.objects.push(replica.object_id);
            fit.bytes += size;
        }
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_never_exceeds_the_limit_and_excludes_unmovable_files() {
        let replica = |number: u128, size: i64, may_move: bool| Movable {
            object_id: ObjectId(uuid::Uuid::from_u128(number)),
            size,
            may_move,
        };
        let seen = [
            replica(1, 60, true),
            replica(2, 60, true),
            replica(3, 30, false),
            replica(4, 0, true),
            replica(5, 30, true),
            replica(6, 5, true),
            replica(7, 5, true),
        ];
        let numbers = |room: u64, slack: u64, most: usize| {
            let fit = fit(&seen, room, slack, most);
            let numbers: Vec<u128> = fit.objects.iter().map(|object| object.0.as_u128()).collect();
            (numbers, fit.bytes, fit.until.map(|object| object.0.as_u128()))
        };
        assert_eq!(numbers(100, 0, 9), (vec![1, 5, 6, 7], 100, Some(7)));
        assert_eq!(numbers(100, 10, 9), (vec![1, 5], 90, Some(5)));
        assert_eq!(numbers(100, 0, 1), (vec![1], 60, Some(1)));
        assert_eq!(numbers(4, 0, 9), (vec![], 0, Some(7)));
        assert_eq!(numbers(4, 4, 9), (vec![], 0, None));
        assert_eq!(fit(&[], 4, 0, 9).until, None);
    }
}
