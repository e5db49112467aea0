//! The operations whose cost must not depend on the number of files: the calls of the API, the worker and the command line,
//! in one place.

use std::time::Duration;

use diesel_async::AsyncConnection as _;
use nightferry_core::catalog;
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::files::{ListOrder, ListQuery};
use nightferry_core::db::replicas::{self, Claim, EvictionClaim, Finished, Order};
use nightferry_core::db::runs::{self, NewRun, Run, RunScope};
use nightferry_core::db::workers;
use nightferry_core::error::{Error, Result};
use nightferry_core::file::list;
use nightferry_core::ids::{LeaseToken, RunId, UserId, WorkerId};
use nightferry_core::tiering::relocate::drain;
use nightferry_core::tiering::{claim, commit, forecast, policy, run};

/// The default size of a page of the API.
const PAGE: i64 = 50;
/// The size of a batch of evictions.
const EVICTIONS: i64 = 250;
/// The local store of the rows of [`crate::rows`].
const LOCAL: &str = "minio";

/// Requests a run of all files.
pub async fn request(context: &Context) -> Result<Run> {
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    run::request(context, new, &Origin::default()).await
}

/// Plans the requested run and starts it.
pub async fn plan(context: &Context) -> Result<Option<Run>> {
    run::start_queued(context).await
}

/// Claims the next batch of a run.
pub async fn claim(context: &Context, run: RunId, worker: WorkerId, most: usize) -> Result<Vec<Claim>> {
    Ok(claim::next_batch(context, run, worker, most).await?.claims)
}

/// The outcome of copies that were made.
pub fn finished(claims: Vec<Claim>) -> Vec<Finished> {
    let made = claims.into_iter().map(|claim| Finished {
        object_id: claim.object_id,
        store: claim.store,
        token: claim.token,
        etag: "0123456789abcdef0123456789abcdef".to_owned(),
        envelope: None,
        size: claim.size,
    });
    made.collect()
}

/// Commits a batch of copies. Returns the number of those that were still ours.
pub async fn commit(context: &Context, copies: &[Finished]) -> Result<usize> {
    Ok(commit::finish(context, copies).await?.len())
}

/// Makes all copies of a run, as far as the database sees them, and ends it.
pub async fn make_all_copies(context: &Context, run: RunId) -> Result<()> {
    let worker = WorkerId::new();
    loop {
        let claims = claim(context, run, worker, 500).await?;
        if claims.is_empty() {
            break;
        }
        commit(context, &finished(claims)).await?;
    }
    end(context, run).await
}

/// Cancels a run.
pub async fn cancel(context: &Context, run: RunId) -> Result<Run> {
    run::cancel(context, run, None, &Origin::default()).await
}

/// Ends a run that was cancelled, or of which all copies were made, as a worker does.
pub async fn end(context: &Context, id: RunId) -> Result<()> {
    loop {
        run::settle(context, id).await?;
        let found = runs::find(&mut *context.db.conn().await?, id).await?;
        if found.is_none_or(|run| !run.status.is_active()) {
            return Ok(());
        }
    }
}

/// The first page of the files of an account, by name; with `part`, of those whose name contains it. Returns their number.
pub async fn first_page(context: &Context, owner: UserId, part: Option<&str>) -> Result<usize> {
    let wanted = ListQuery {
        owner,
        folder: None,
        name_contains: part.map(str::to_owned),
        location: None,
        content_type: None,
        trashed: false,
        order: ListOrder::Name(None),
        descending: false,
        after: None,
        limit: PAGE,
    };
    Ok(list::page(context, wanted).await?.0.len())
}

/// What `nightferry sync status` reads. Returns the number of rows that it shows.
pub async fn sync_status(context: &Context) -> Result<usize> {
    let (runs, _) = run::page(context, None, 2).await?;
    let report = catalog::latest_report(context).await?;
    let mut conn = context.db.conn().await?;
    let forecast = forecast::of_active(context, &mut conn).await?;
    let workers = workers::all(&mut conn).await?;
    let counts = replicas::count_by_state(&mut conn).await?;
    let lost = replicas::objects_lost(&mut conn).await?;
    let single = usize::from(report.is_some()) + usize::from(forecast.is_some()) + usize::from(lost > 0);
    Ok(runs.len() + workers.len() + counts.len() + single)
}

/// Selects the next batch of copies to evict, as each pass does, by the default rule or, with `least_used`, by the time of
/// the last use. Evicts nothing. Returns the number of copies examined: those that must stay, such as those of pinned files,
/// are among them.
pub async fn evict_candidates(context: &Context, least_used: bool) -> Result<usize> {
    let policy = policy::of(context)?;
    let (clouds, keeping) = (policy.available_clouds(), policy.keeping());
    let claim = EvictionClaim {
        local: LOCAL,
        clouds: &clouds,
        keeping: &keeping,
        grace: Duration::from_secs(10),
        worker: WorkerId::new(),
        token: LeaseToken::new(),
        lease: Duration::from_secs(60),
    };
    let order = if least_used {
        Order::LeastUsed
    } else {
        Order::ByRule { rule: "default", after: Duration::from_secs(3600) }
    };
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let next = replicas::next_in_order(conn, &claim, order, None, EVICTIONS).await?;
        let among: Vec<_> = next.iter().map(|copy| copy.object_id).collect();
        replicas::lock_evictable(conn, &claim, order, &among).await?;
        Ok::<_, Error>(among.len())
    })
    .await
}

/// Starts draining the local store.
pub async fn begin_drain(context: &Context) -> Result<()> {
    drain::begin(context, LOCAL, None, &Origin::default()).await?;
    Ok(())
}

/// What `nightferry store drain` shows while it waits. Returns the number of remaining replicas.
pub async fn drain_progress(context: &Context) -> Result<i64> {
    Ok(drain::look(context, LOCAL).await?.map_or(0, |draining| draining.left.replicas))
}
