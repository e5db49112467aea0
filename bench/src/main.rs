//! Compares Nightferry with bare stores and rclone, in one invocation, on the same servers, and prints ratios. Measures
//! the release binary from outside, as processes; only claims, plans and the operations of `scale` are called directly.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod args;
mod claim;
mod client;
mod endurance;
mod evict;
mod far;
mod machine;
mod memory;
mod plan;
mod proc;
mod quiet;
mod rclone;
mod relay;
mod report;
mod scale;
mod sign_in;
mod sql;
mod stats;
mod subject;
mod sync;
mod transfers;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser as _;
use nightferry::signals::StopRequests;

use args::{Args, Section, Server};
use endurance::Load;
use quiet::Quiet;
use report::Report;
use sync::{FileSet, Workload};
use world::World;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args).await {
        Ok(false) if args.strict || args.names(Section::Scale) => {
            eprintln!("a goal was missed");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every goal was met.
async fn run(args: &Args) -> Result<bool> {
    let mut requests = StopRequests::listen()?;
    let mut quiet = Quiet::within(Duration::from_secs(args.quiet_within));
    let mut report = Report::default();
    for section in sections(args) {
        // Boxed: the futures are large.
        on_new_servers(args.s3_server, args, &mut requests, async |world| {
            Box::pin(measure(world, args, section, &mut quiet, &mut report)).await
        })
        .await?;
    }
    if args.names(Section::Far) {
        for server in far::servers(args, &mut report)? {
            for case in far::CASES {
                on_new_servers(server, args, &mut requests, async |world| {
                    Box::pin(far::run(world, args, (server, case), &mut quiet, &mut report)).await
                })
                .await?;
            }
        }
    }
    let mut facts = machine::facts(args.s3_server).await;
    facts.push(quiet.summary());
    if !args.set.is_empty() {
        let set: Vec<String> = args.set.iter().map(|(key, value)| format!("`{key} = {value}`")).collect();
        facts.push(format!("settings that differ from the defaults: {}", set.join(", ")));
    }
    println!("{}", report.markdown(&facts));
    Ok(report.all_hold())
}

/// Measures on new servers: SeaweedFS does not release disk space until its folder is deleted.
async fn on_new_servers(
    server: Server,
    args: &Args,
    requests: &mut StopRequests,
    act: impl AsyncFnOnce(&World) -> Result<()>,
) -> Result<()> {
    let world = World::start(server.into(), &args.set).await?;
    let outcome = tokio::select! {
        biased;
        () = requests.next() => Err(anyhow::anyhow!("stopped")),
        outcome = act(&world) => outcome,
    };
    if outcome.is_err() {
        eprintln!("{}", subject::log_tails(world.folder()));
    }
    let stopped = world.stop(requests).await;
    outcome?;
    stopped
}

/// The parts that need separate servers, except far clouds, which need new ones for each case. Uploads and downloads share
/// theirs.
fn sections(args: &Args) -> Vec<Section> {
    let mut sections = Vec::new();
    if args.wants(Section::Upload) || args.wants(Section::Download) {
        sections.push(Section::Upload);
    }
    let others = [
        Section::Memory,
        Section::SyncSmall,
        Section::SyncLarge,
        Section::Claim,
        Section::Plan,
        Section::SignIn,
        Section::LongSmall,
        Section::LongLarge,
        Section::Evict,
    ];
    sections.extend(others.into_iter().filter(|section| args.wants(*section)));
    if args.names(Section::Scale) {
        sections.push(Section::Scale);
    }
    sections
}

async fn measure(
    world: &World,
    args: &Args,
    section: Section,
    quiet: &mut Quiet,
    report: &mut Report,
) -> Result<()> {
    match section {
        Section::Upload => transfers::run(world, args, quiet, report).await,
        Section::Memory => memory::run(world, args, report).await,
        Section::SyncSmall => {
            let files = args.scaled(2000);
            let workload = Workload {
                name: "small",
                title: format!("{files} × 16 KiB"),
                files: vec![FileSet { count: files, size: 16 * KIB }],
                link: None,
                flags: &[rclone::SMALL],
                goal: 1.3,
                repeat: 7,
            };
            sync::run(world, args, &workload, quiet, report).await?;
            Ok(())
        }
        Section::SyncLarge => {
            let mib = args.scaled(256);
            let workload = Workload {
                name: "large",
                title: format!("4 × {mib} MiB"),
                files: vec![FileSet { count: 4, size: u64::from(mib) * MIB }],
                link: None,
                flags: &[rclone::LARGE],
                goal: 1.0,
                repeat: 5,
            };
            sync::run(world, args, &workload, quiet, report).await?;
            Ok(())
        }
        Section::Claim => claim::run(world, args, quiet, report).await,
        Section::Plan => plan::run(world, args, quiet, report).await,
        Section::SignIn => sign_in::run(world, args, quiet, report).await,
        Section::LongSmall => {
            let load = Load {
                name: "long_small",
                title: format!("{} × 16 KiB", args.scaled(100_000)),
                files: 100_000,
                size: 16 * KIB,
                counts_statements: true,
            };
            endurance::run(world, args, &load, report).await
        }
        Section::LongLarge => {
            let load = Load {
                name: "long_large",
                title: format!("{} × 1 GiB", args.scaled(20)),
                files: 20,
                size: 1024 * MIB,
                counts_statements: false,
            };
            endurance::run(world, args, &load, report).await
        }
        Section::Evict => evict::run(world, args, quiet, report).await,
        Section::Scale => scale::run(world, args, quiet, report).await,
        Section::Download => bail!("downloads are measured with the uploads"),
        Section::Far => bail!("far clouds are measured on new servers for each case"),
    }
}
