//! `nightferry store rebalance`: shows what would be moved to fill the local stores evenly, moves it, or stops.

use clap::Args;
use nightferry_api_types::rebalance::{Rebalance, RebalancePlan};
use nightferry_core::context::Context;
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::relocate::rebalance::{self, Plan, Rebalancing, Share};

use super::App;
use crate::commands::store::drain::warn_without_worker;
use crate::commands::watch::wait_until_finished;
use crate::commands::{origin, service};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{plain, table};
use crate::format::{bytes, count, grouped};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry store rebalance                    show what would be moved; changes nothing
  nightferry store rebalance --apply --wait     move it, and wait until it has been moved
  nightferry store rebalance --tolerance 1      until the shares are almost equal
  nightferry store rebalance --stop             stop; moved files stay where they are

Files are moved from the fullest local store to the emptiest until all are evenly filled: by percentage of \
their capacity if every local store has one, otherwise by bytes. Nothing moves between stores that are both \
within the tolerance of the mean. Each file is copied, verified, and only then deleted from its old store: \
it stays readable and keeps its number of copies; pinned files are moved too. A store that is down, suspect \
or being drained is excluded. Rebalancing continues after restarts; repeating the command retries failed \
copies. Cloud stores cannot be rebalanced: the policy determines where files are stored.

Exit code 5 if the rebalancing was stopped while waiting.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RebalanceArgs {
    /// Move the files
    #[arg(long)]
    apply: bool,
    /// Wait until all files have been moved
    #[arg(long, requires = "apply")]
    wait: bool,
    /// Stop rebalancing
    #[arg(long, conflicts_with_all = ["apply", "wait", "tolerance"])]
    stop: bool,
    /// How far the usage of a store may be from the mean, in percent of its capacity (or of all bytes)
    #[arg(long, value_name = "PERCENT", default_value_t = rebalance::TOLERANCE, value_parser = clap::value_parser!(u8).range(0..=100))]
    tolerance: u8,
    /// The role of the stores to rebalance; only local stores are supported
    #[arg(long, value_name = "ROLE", default_value = "local", value_parser = ["local", "cloud"])]
    role: String,
}

pub(super) async fn run(app: &App, context: &Context, args: &RebalanceArgs) -> Result<Exit, Failure> {
    let role = if args.role == "cloud" { StoreRole::Cloud } else { StoreRole::Local };
    rebalance::check_role(role).map_err(cannot("rebalance the stores"))?;
    if args.stop {
        return stop(app, context).await;
    }
    if !args.apply {
        return show(app, context, args.tolerance).await;
    }
    service::require_distinct(context, "Cannot rebalance the stores").await?;
    let begun = rebalance::begin(context, args.tolerance, None, &origin())
        .await
        .map_err(cannot("rebalance the local stores"))?;
    if !begun.is_finished() {
        warn_without_worker(app, context).await?;
    }
    let ended = if args.wait { wait(app, context, begun).await? } else { begun };
    app.output.result(&document!(rebalance: Rebalance::from(&ended)), |_| progress(&ended))?;
    if !ended.is_finished() {
        app.output.note_command("To see the progress", "store rebalance");
    }
    Ok(Exit::Ok)
}

async fn show(app: &App, context: &Context, tolerance: u8) -> Result<Exit, Failure> {
    let plan = rebalance::plan(context, tolerance).await.map_err(cannot("plan the moves"))?;
    let last = look(context).await?;
    app.output.result(&RebalancePlan::new(&plan, last.as_ref()), |_| text(&plan))?;
    match last.filter(|last| !last.is_finished()) {
        Some(last) => app.output.note(&progress(&last)),
        None if plan.shifts.is_empty() => {}
        None => {
            app.output.note_command("To execute it", "store rebalance --apply --wait");
        }
    }
    Ok(Exit::Ok)
}

async fn stop(app: &App, context: &Context) -> Result<Exit, Failure> {
    let was_running =
        rebalance::stop(context, None, &origin()).await.map_err(cannot("stop the rebalancing"))?;
    let last = look(context).await?;
    let shown = last.as_ref().map(Rebalance::from);
    let document = document!(was_running: was_running, rebalance: shown);
    app.output.result(&document, |_| match &last {
        Some(last) if was_running => progress(last),
        _ => "No rebalancing was active.".to_owned(),
    })
}

async fn look(context: &Context) -> Result<Option<Rebalancing>, Failure> {
    rebalance::look(context).await.map_err(cannot("check the progress of the rebalancing"))
}

async fn wait(app: &App, context: &Context, rebalancing: Rebalancing) -> Result<Rebalancing, Failure> {
    let look = async || Ok(Ok(rebalance::look(context).await?));
    let interrupted = |failure: Failure| {
        failure
            .because("Ctrl-C; the rebalancing continues")
            .advise_command("follow it again", "store rebalance --apply --wait")
            .advise_command("or cancel it", "store rebalance --stop")
    };
    let finished = Rebalancing::is_finished;
    let rebalancing = wait_until_finished(app, rebalancing, finished, progress, look, interrupted).await?;
    if rebalancing.was_stopped() {
        return Err(Failure::new(Exit::Partial, "rebalance_stopped", "The stores were not rebalanced")
            .because(format!("the rebalancing was stopped. {}", progress(&rebalancing)))
            .advise_command("see what would be moved now", "store rebalance"));
    }
    Ok(rebalancing)
}

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
            "Nothing has to be moved: every local store is within the tolerance.".to_owned()
        }
        ("finished", _) => format!("The local stores are rebalanced: {done}."),
        ("stopped", _) => format!("Stopped: {done}."),
        (state, waits_for) => {
            let what = if state == "stopping" { "Stopping" } else { "The local stores are being rebalanced" };
            let waits_for =
                waits_for.as_ref().map(|it| format!(" Waiting: {}", plain(it))).unwrap_or_default();
            format!("{what}: {done}.{waits_for}")
        }
    }
}

fn text(plan: &Plan) -> String {
    let share = |share: Option<u32>| {
        share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", Share::per_cent(share)))
    };
    let headings = "STORE | > USED | > CAPACITY | > SHARE | > AFTER | > SHARE |";
    let stores = table(headings, &plan.stores, |store| {
        [
            store.name.clone(),
            bytes::human(store.used),
            store.capacity.map_or_else(|| "-".to_owned(), bytes::human),
            share(store.share),
            bytes::human(store.after),
            share(store.share_after),
            store.excluded.map(|why| format!("excluded: {why}")).unwrap_or_default(),
        ]
    });
    if plan.shifts.is_empty() {
        let why = if plan.taking_part().count() < 2 {
            "at least two local stores must be healthy and not being drained".to_owned()
        } else {
            format!("every store is within {} % of the mean, or no file fits", plan.tolerance)
        };
        return format!("{stores}\n\nNothing would be moved: {why}.");
    }
    let moves = table("FROM | TO | > FILES | > BYTES", &plan.shifts, |shift| {
        [shift.from.clone(), shift.to.clone(), grouped(shift.files), bytes::human(shift.bytes)]
    });
    format!("{stores}\n\n{moves}")
}
