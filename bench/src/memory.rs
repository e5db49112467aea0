//! Peak memory of API and worker while large files are uploaded concurrently and then synced.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use nightferry_core::db::enums::RunStatus;
use nightferry_devservers::free_port;

use crate::args::Args;
use crate::client::Api;
use crate::report::{Goal, Report};
use crate::stats::mebibytes;
use crate::subject::Subject;
use crate::sync::{carry_over, wait_for_worker};
use crate::world::{Random, World, open};

const FILES: u32 = 8;
const LIMIT_MIB: u64 = 64;

/// Measures the peak memory of the API and the worker.
pub(crate) async fn run(world: &World, args: &Args, report: &mut Report) -> Result<()> {
    let mib = args.scaled(256);
    eprintln!("memory during uploads and syncs of {FILES} files of {mib} MiB");
    let file = world.files().join("memory.bin");
    Random::new(2, u64::from(mib) * 1024 * 1024).write_to(&file)?;
    let (context, _) = world.install("memory", "memory-cloud").await?;
    drop(context);
    let port = free_port()?;
    let mut settings = world.settings("memory", "memory-cloud");
    settings.push(("server.port".to_owned(), port.to_string()));
    let context = open(settings.clone())?;
    let mut serve = Subject::start("serve", &settings, world.folder())?;
    let mut worker = Subject::start("worker", &settings, world.folder())?;
    let api = Api::sign_in(&mut serve, port).await?;
    wait_for_worker(&mut worker, &world.database_url("memory")).await?;
    let idle = (serve.peak_memory_kib()?, worker.peak_memory_kib()?);

    let names: Vec<String> = (0..FILES).map(|number| format!("memory-{number}.bin")).collect();
    try_join_all(names.iter().map(|name| api.upload(&file, name))).await?;
    let ended = carry_over(&context, &mut worker).await?;
    ensure!(ended.status == RunStatus::Succeeded && ended.files_done == i64::from(FILES), "{ended:?}");

    let peaks = [("API", serve.peak_memory_kib()?, idle.0), ("worker", worker.peak_memory_kib()?, idle.1)];
    for (who, peak, before) in peaks {
        let what =
            format!("peak memory of the {who}, {FILES} × {mib} MiB uploaded concurrently, then synced");
        judge(&what, peak, report);
        report.note(format!("{who}, peak memory before the first file: {}", mebibytes(before)));
    }
    serve.stop().await?;
    worker.stop().await
}

/// Compares a peak memory with the limit of the API and the worker.
pub(crate) fn judge(what: &str, peak_kib: u64, report: &mut Report) {
    let ratio = float(peak_kib) / float(LIMIT_MIB * 1024);
    report.compare(
        what,
        mebibytes(peak_kib),
        format!("limit: {LIMIT_MIB} MiB"),
        (ratio, format!("**{ratio:.2}**")),
        Goal::AtMost(1.0),
    );
}

fn float(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX))
}
