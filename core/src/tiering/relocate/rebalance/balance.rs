//! How much has to be moved from which store to which, to fill them evenly: a pure function of their usage.

/// A fraction of the tolerance that is not worth searching for files.
const SLACK: u64 = 10;

/// The usage of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// Size in bytes.
    pub(super) bytes: u64,
    /// Capacity in bytes, if limited.
    pub(super) capacity: Option<u64>,
}

/// A move from one store to another, by their indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Maximum bytes.
    pub(super) bytes: u64,
    /// The number of bytes not worth another search.
    pub(super) slack: u64,
}

/// The deviation of a store from its target.
#[derive(Debug, Clone, Copy)]
struct Deviation {
    place: usize,
    /// Surplus bytes.
    over: u64,
    /// Free bytes up to the target.
    under: u64,
    /// The tolerance in bytes.
    tolerated: u64,
    /// Whether it deviates more than the tolerance.
    is_off: bool,
}

/// Whether all stores have a capacity, so that shares are relative to it. Otherwise they are relative to the total.
pub(super) fn by_capacity(loads: &[Load]) -> bool {
    loads.iter().all(|load| load.capacity.is_some_and(|capacity| capacity > 0))
}

/// `part` of `whole` in tenths of a percent; 0 if `whole` is 0.
pub(super) fn permille(part: u64, whole: u64) -> u32 {
    if whole == 0 {
        return 0;
    }
    u32::try_from(u128::from(part) * 1000 / u128::from(whole)).unwrap_or(u32::MAX)
}

/// The basis of each store's share.
pub(super) fn wholes(loads: &[Load]) -> Vec<u64> {
    let total = loads.iter().map(|load| load.bytes).sum();
    let by_capacity = by_capacity(loads);
    loads.iter().map(|load| load.capacity.filter(|_| by_capacity).unwrap_or(total)).collect()
}

/// The required moves. Nothing moves between two stores whose shares are both within `tolerance` percent of the mean,
/// and no move takes a store past the mean, or past its capacity.
pub(super) fn even_out(loads: &[Load], tolerance: u8) -> Vec<Shift> {
    let mut deviations = deviations(loads, tolerance);
    let mut shifts = Vec::new();
    // First between stores outside the tolerance, then with the help of the others.
    for (from_off, to_off) in [(true, true), (true, false), (false, true)] {
        while let Some((source, destination)) = next_pair(&deviations, from_off, to_off) {
            let bytes = source.over.min(destination.under);
            let slack = source.tolerated.min(destination.tolerated) / SLACK;
            shifts.push(Shift { from: source.place, to: destination.place, bytes, slack });
            for deviation in &mut deviations {
                if deviation.place == source.place {
                    deviation.over -= bytes;
                } else if deviation.place == destination.place {
                    deviation.under -= bytes;
                }
            }
        }
    }
    shifts
}

/// The bytes that take one of two stores to the mean without taking the other past it; and the amount not worth another
/// search.
pub(super) fn between(loads: &[Load], tolerance: u8, from: usize, to: usize) -> (u64, u64) {
    let deviations = deviations(loads, tolerance);
    match (deviations.get(from), deviations.get(to)) {
        (Some(source), Some(destination)) => {
            (source.over.min(destination.under), source.tolerated.min(destination.tolerated) / SLACK)
        }
        _ => (0, 0),
    }
}

fn deviations(loads: &[Load], tolerance: u8) -> Vec<Deviation> {
    let wholes = wholes(loads);
    let total: u128 = loads.iter().map(|load| u128::from(load.bytes)).sum();
    let room: u128 = wholes.iter().map(|whole| u128::from(*whole)).sum();
    let deviation = |(place, (load, whole)): (usize, (&Load, &u64))| {
        // Rounding may leave a byte over, which does not matter.
        let target = u64::try_from(total * u128::from(*whole) / room.max(1)).unwrap_or(u64::MAX);
        let tolerated = u64::try_from(u128::from(*whole) * u128::from(tolerance) / 100).unwrap_or(u64::MAX);
        let most = load.capacity.map_or(target, |capacity| target.min(capacity));
        Deviation {
            place,
            over: load.bytes.saturating_sub(target),
            under: most.saturating_sub(load.bytes),
            tolerated,
            is_off: load.bytes.abs_diff(target) > tolerated.max(1),
        }
    };
    loads.iter().zip(&wholes).enumerate().map(deviation).collect()
}

/// The stores with the largest surplus and the largest deficit.
fn next_pair(deviations: &[Deviation], from_off: bool, to_off: bool) -> Option<(Deviation, Deviation)> {
    let source = deviations
        .iter()
        .filter(|deviation| deviation.over > 0 && deviation.is_off == from_off)
        .max_by_key(|deviation| deviation.over)?;
    let destination = deviations
        .iter()
        .filter(|deviation| deviation.under > 0 && deviation.is_off == to_off)
        .max_by_key(|deviation| deviation.under)?;
    Some((*source, *destination))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u64]) -> Vec<Load> {
        bytes.iter().map(|bytes| Load { bytes: *bytes, capacity: None }).collect()
    }

    fn of(loads: &[(u64, u64)]) -> Vec<Load> {
        loads.iter().map(|(bytes, capacity)| Load { bytes: *bytes, capacity: Some(*capacity) }).collect()
    }

    fn shifts(loads: &[Load], tolerance: u8) -> Vec<(usize, usize, u64)> {
        even_out(loads, tolerance).into_iter().map(|shift| (shift.from, shift.to, shift.bytes)).collect()
    }

    #[test]
    fn without_capacities_all_stores_hold_the_same_bytes() {
        assert_eq!(shifts(&plain(&[900, 0, 0]), 5), [(0, 2, 300), (0, 1, 300)]);
        assert_eq!(shifts(&plain(&[600, 600, 0]), 5), [(1, 2, 200), (0, 2, 200)]);
        assert!(shifts(&plain(&[0, 0]), 0).is_empty());
        assert!(shifts(&plain(&[7]), 0).is_empty());
        assert!(shifts(&[], 0).is_empty());
    }

    #[test]
    fn with_capacities_all_stores_reach_the_same_share() {
        assert_eq!(shifts(&of(&[(800, 1000), (0, 3000)]), 5), [(0, 1, 600)]);
        assert!(shifts(&of(&[(200, 1000), (600, 3000)]), 0).is_empty());
        // A store without capacity makes the total the basis; the capacity of the other is still observed.
        let mixed = [Load { bytes: 1000, capacity: None }, Load { bytes: 0, capacity: Some(100) }];
        assert_eq!(shifts(&mixed, 5), [(0, 1, 100)]);
    }

    #[test]
    fn stores_within_the_tolerance_are_unchanged() {
        assert!(shifts(&of(&[(53, 100), (47, 100)]), 5).is_empty());
        assert_eq!(shifts(&of(&[(53, 100), (47, 100)]), 2), [(0, 1, 3)]);
        // A store outside the tolerance is helped by those within it.
        assert_eq!(shifts(&of(&[(59, 100), (47, 100), (47, 100), (47, 100)]), 5).len(), 3);
        assert_eq!(shifts(&of(&[(41, 100), (53, 100), (53, 100), (53, 100)]), 5).len(), 3);
        assert!(shifts(&plain(&[3, 2]), 0).is_empty(), "half a byte cannot move");
    }

    #[test]
    fn no_move_overshoots_and_a_second_plan_moves_nothing() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for round in 0..500 {
            let count = next(6) + 1;
            let mut loads: Vec<Load> = (0..count)
                .map(|_| {
                    let capacity = next(1_000_000) + 1;
                    let bytes = next(capacity);
                    Load { bytes, capacity: (round % 2 == 0).then_some(capacity) }
                })
                .collect();
            let before: u64 = loads.iter().map(|load| load.bytes).sum();
            let tolerance = u8::try_from(next(20)).unwrap();
            for shift in even_out(&loads, tolerance) {
                assert!(shift.bytes > 0);
                loads[shift.from].bytes -= shift.bytes;
                loads[shift.to].bytes += shift.bytes;
            }
            assert_eq!(loads.iter().map(|load| load.bytes).sum::<u64>(), before);
            assert!(even_out(&loads, tolerance).is_empty(), "{loads:?}");
        }
    }
}
