//! `nightferry store rebalance`: shows what would move so that the local stores are as full, has it moved, or calls it off.

use std::time::Duration;

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::relocate::rebalance::{self, Plan, Rebalancing, Share};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::commands::origin;
use crate::commands::sync::worker_is_up;
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::documents::{RebalanceDocument, RebalancePlanDocument};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Align, Table, plain};
use crate::format::{bytes, count, grouped};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  nightferry store rebalance                    what would move; nothing is changed
  nightferry store rebalance --apply --wait     move it, and wait until it has moved
  nightferry store rebalance --tolerance 1      until the shares differ by next to nothing
  nightferry store rebalance --stop             call it off; what has moved stays where it is

Files move from the fullest local store to the emptiest until all are as full: by their share of its capacity where every \
local store has one, else by bytes. Between stores whose shares are both within the tolerance of the mean nothing moves. Each \
file is copied, proved, and only then deleted where it was, so that it stays readable and has as many copies as before; \
pinned files move too. A store that is down, in doubt, or being emptied neither gives nor takes. It goes on when everything \
is restarted; asked for again, it tries again what was given up. Cloud stores are not evened out: files lie there where the \
policy puts them.

Exit code 5 when waiting ended because somebody called it off.";

/// Options of `store rebalance`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RebalanceArgs {
    /// Move what the plan says
    #[arg(long)]
    apply: bool,
    /// Wait until it has moved
    #[arg(long, requires = "apply")]
    wait: bool,
    /// Call it off
    #[arg(long, conflicts_with_all = ["apply", "wait", "tolerance"])]
    stop: bool,
    /// How far a store's share may be from the mean, in per cent of its capacity (or of all bytes)
    #[arg(long, value_name = "PER-CENT", default_value_t = rebalance::TOLERANCE, value_parser = clap::value_parser!(u8).range(0..=100))]
    tolerance: u8,
    /// The stores to even out; only the local ones can be
    #[arg(long, value_name = "ROLE", default_value = "local")]
    role: Role,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    Local,
    Cloud,
}

#[derive(Serialize)]
struct PlanDocument {
    plan: RebalancePlanDocument,
    rebalance: Option<RebalanceDocument>,
}

#[derive(Serialize)]
struct Document {
    rebalance: RebalanceDocument,
}

#[derive(Serialize)]
struct StopDocument {
    was_running: bool,
    rebalance: Option<RebalanceDocument>,
}

pub(super) async fn run(app: &App, context: &Context, args: &RebalanceArgs) -> Result<Exit, Failure> {
    let role = match args.role {
        Role::Local => StoreRole::Local,
        Role::Cloud => StoreRole::Cloud,
    };
    rebalance::check_role(role).map_err(cannot("even out the stores"))?;
    if args.stop {
        return stop(app, context).await;
    }
    if !args.apply {
        return show(app, context, args.tolerance).await;
    }
    let begun = rebalance::begin(context, args.tolerance, None, &origin())
        .await
        .map_err(cannot("even out the local stores"))?;
    if !begun.is_finished() && !worker_is_up(context).await.map_err(cannot("look for workers"))? {
        let command = app.output.command("worker");
        app.output.warning(&format!("no worker is up, so nothing moves yet. Start one: {command}"));
    }
    let ended = if args.wait { wait(app, context, begun).await? } else { begun };
    app.output.result(&Document { rebalance: RebalanceDocument::of(&ended) }, |_| progress(&ended))?;
    if !ended.is_finished() {
        app.output.note(&format!("See how far it is: {}", app.output.command("store rebalance")));
    }
    Ok(Exit::Ok)
}

async fn show(app: &App, context: &Context, tolerance: u8) -> Result<Exit, Failure> {
    let plan = rebalance::plan(context, tolerance).await.map_err(cannot("plan what would move"))?;
    let last = look(context).await?;
    let document = PlanDocument {
        plan: RebalancePlanDocument::of(&plan),
        rebalance: last.as_ref().map(RebalanceDocument::of),
    };
    app.output.result(&document, |_| text(&plan))?;
    match last.filter(|last| !last.is_finished()) {
        Some(last) => app.output.note(&progress(&last)),
        None if plan.shifts.is_empty() => {}
        None => {
            app.output
                .note(&format!("Carry it out: {}", app.output.command("store rebalance --apply --wait")));
        }
    }
    Ok(Exit::Ok)
}

async fn stop(app: &App, context: &Context) -> Result<Exit, Failure> {
    let was_running =
        rebalance::stop(context, None, &origin()).await.map_err(cannot("call off the evening out"))?;
    let last = look(context).await?;
    let document = StopDocument { was_running, rebalance: last.as_ref().map(RebalanceDocument::of) };
    app.output.result(&document, |_| match &last {
        Some(last) if was_running => progress(last),
        _ => "The stores were not being evened out.".to_owned(),
    })?;
    Ok(Exit::Ok)
}

async fn look(context: &Context) -> Result<Option<Rebalancing>, Failure> {
    rebalance::look(context).await.map_err(cannot("see how far the evening out is"))
}

/// Looks until it is at its end, or until Ctrl-C.
async fn wait(app: &App, context: &Context, mut rebalancing: Rebalancing) -> Result<Rebalancing, Failure> {
    let (mut watch, stop): (Watch, CancellationToken) = (Watch::new(&app.output), stop_on_ctrl_c());
    while !rebalancing.is_finished() {
        watch.show(|| progress(&rebalancing));
        tokio::select! {
            () = stop.cancelled() => {
                watch.clear();
                return Err(Failure::new(Exit::Interrupted, "interrupted", "Stopped waiting")
                    .because("Ctrl-C; evening out the stores goes on")
                    .advise_command("watch it again", "store rebalance --apply --wait")
                    .advise_command("or call it off", "store rebalance --stop"));
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match rebalance::look(context).await {
            Ok(Some(now)) => rebalancing = now,
            Ok(None) => {}
            Err(error) => app.output.detail(&format!("the database is away: {error}")),
        }
    }
    watch.clear();
    if rebalancing.was_stopped() {
        return Err(Failure::new(Exit::Partial, "rebalance_stopped", "The stores were not evened out")
            .because(format!("somebody called it off. {}", progress(&rebalancing)))
            .advise_command("see what would move now", "store rebalance"));
    }
    Ok(rebalancing)
}

/// How far it is, in a sentence.
pub(super) fn progress(rebalancing: &Rebalancing) -> String {
    let ((files, bytes_moved), (all, bytes_all)) = (rebalancing.moved(), rebalancing.planned());
    let done = format!(
        "{} of {} moved ({} of {})",
        grouped(files),
        count(all, "file"),
        bytes::human(bytes_moved),
        bytes::human(bytes_all)
    );
    match (rebalancing.state(), &rebalancing.rebalance.waits_for) {
        ("finished", _) if all == 0 => {
            "Nothing has to move: every local store is within the tolerance.".to_owned()
        }
        ("finished", _) => format!("The local stores are evened out: {done}."),
        ("stopped", _) => format!("Called off: {done}."),
        (state, waits_for) => {
            let what = if state == "stopping" {
                "Called off, and ending"
            } else {
                "The local stores are being evened out"
            };
            let waits_for =
                waits_for.as_ref().map(|it| format!(" It waits: {}", plain(it))).unwrap_or_default();
            format!("{what}: {done}.{waits_for}")
        }
    }
}

fn text(plan: &Plan) -> String {
    let mut stores = Table::new(&[
        ("STORE", Align::Left),
        ("USED", Align::Right),
        ("CAPACITY", Align::Right),
        ("SHARE", Align::Right),
        ("AFTER", Align::Right),
        ("SHARE", Align::Right),
        ("", Align::Left),
    ]);
    let share = |share: Option<u32>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", Share::per_cent(share)))
    };
    for store in &plan.stores {
        stores.row([
            store.name.clone(),
            bytes::human(store.used),
            store.capacity.map_or_else(|| "-".to_owned(), bytes::human),
            share(store.share),
            bytes::human(store.after),
            share(store.share_after),
            store.left_out.map(|why| format!("left out: {why}")).unwrap_or_default(),
        ]);
    }
    let stores = stores.render();
    if plan.shifts.is_empty() {
        let why = if plan.taking_part().count() < 2 {
            "it takes two local stores that are well and not being emptied".to_owned()
        } else {
            format!("every store is within {} % of the mean, or no file fits", plan.tolerance)
        };
        return format!("{stores}\n\nNothing would move: {why}.");
    }
    let mut moves = Table::new(&[
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("FILES", Align::Right),
        ("BYTES", Align::Right),
    ]);
    for shift in &plan.shifts {
        moves.row([shift.from.clone(), shift.to.clone(), grouped(shift.files), bytes::human(shift.bytes)]);
    }
    format!("{stores}\n\n{}", moves.render())
}
