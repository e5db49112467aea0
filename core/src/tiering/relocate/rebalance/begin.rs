//! Starts moves in batches: selects, marks, and queues them for their destination.

use diesel_async::AsyncConnection;

use super::super::pass::Pass;
use super::super::report::MAX_UNDER_WAY;
use super::balance::{self, Load};
use super::plan::{BATCH, fit};
use super::planner::Rebalancer;
use crate::context::Context;
use crate::db::rebalances::{self, Route};
use crate::db::{listen, replicas, unsigned};
use crate::error::{Error, Result};

impl<'p> Rebalancer<'p> {
    /// Starts moves as far as there is room: never more than planned, and never more than takes both stores to the
    /// current mean.
    pub(super) async fn begin_more(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        let context = pass.context;
        let mut room = MAX_UNDER_WAY.saturating_sub(self.under_way);
        self.routes.retain(|route| !route.all_begun);
        // Counting the usage is worthwhile only for a minimum number of moves.
        if self.routes.is_empty() || room < MAX_UNDER_WAY / 4 {
            return Ok(());
        }
        let well: Vec<&str> =
            self.lasting.iter().copied().filter(|name| context.stores.health().is_healthy(name)).collect();
        let mut loads = loads(context, &well).await?;
        for route in &self.routes {
            let ends = [route.from_store.as_str(), route.to_store.as_str()];
            if ends.iter().any(|name| !self.lasting.contains(name)) {
                let mut conn = context.db.conn().await?;
                rebalances::record_started(&mut conn, route, (0, 0), route.looked_until, true).await?;
                continue;
            }
            let places = ends.map(|name| well.iter().position(|it| *it == name));
            let (true, [Some(from), Some(to)]) = (pass.are_healthy(&ends), places) else { continue };
            if !context.stores.health().accepts_writes(&route.to_store) {
                pass.report.full.insert(route.to_store.clone());
                continue;
            }
            let (wanted, slack) = balance::between(&loads, self.tolerance, from, to);
            let planned = unsigned(route.bytes_planned - route.bytes_begun);
            let (files, bytes) = begin_route(pass, route, wanted.min(planned), slack, room).await?;
            room = room.saturating_sub(files);
            if let Some(load) = loads.get_mut(from) {
                load.bytes = load.bytes.saturating_sub(bytes);
            }
            if let Some(load) = loads.get_mut(to) {
                load.bytes += bytes;
            }
        }
        Ok(())
    }
}

async fn loads(context: &Context, stores: &[&str]) -> Result<Vec<Load>> {
    let held = replicas::held(&mut *context.db.conn().await?, stores).await?;
    let load = |name: &&str| Load {
        bytes: held.iter().find(|held| held.store == **name).map_or(0, |held| unsigned(held.expected)),
        capacity: context.config.capacity_of(name),
    };
    Ok(stores.iter().map(load).collect())
}

/// Starts at most `most` moves along a route, of at most `wanted` bytes. Returns their number and bytes.
async fn begin_route(
    pass: &mut Pass<'_>,
    route: &Route,
    wanted: u64,
    slack: u64,
    most: usize,
) -> Result<(usize, u64)> {
    let (mut files, mut bytes, mut after) = (0, 0, route.looked_until);
    while files < most && !pass.stop.is_cancelled() {
        let mut conn = pass.context.db.conn().await?;
        let left = wanted.saturating_sub(bytes);
        let fit = if left <= slack {
            None
        } else {
            let seen = replicas::movable(&mut conn, &route.from_store, &route.to_store, after, BATCH).await?;
            Some(fit(&seen, left, slack, most - files)).filter(|fit| fit.until.is_some())
        };
        let is_last = fit.is_none();
        let fit = fit.unwrap_or_default();
        after = fit.until.unwrap_or(after);
        let begun = conn
            .transaction(async |conn| {
                if !rebalances::lock(conn).await?.is_some_and(|last| last.is_active()) {
                    return Ok(None);
                }
                let (from, to) = (&route.from_store, &route.to_store);
                let begun = replicas::begin_moves(conn, from, to, &fit.objects).await?;
                rebalances::record_started(conn, route, (begun.files, begun.bytes), after, is_last).await?;
                if begun.files > 0 {
                    listen::notify(conn, listen::RUNS, "rebalance").await?;
                }
                Ok::<_, Error>(Some(begun))
            })
            .await?;
        let Some(begun) = begun else { break };
        files += usize::try_from(begun.files).unwrap_or(0);
        bytes += unsigned(begun.bytes);
        if is_last {
            break;
        }
    }
    pass.report.queued += files;
    Ok((files, bytes))
}
