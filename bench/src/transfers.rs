//! One large file through the API, up and down, against the bare store: same content, same client, same server.

use std::time::Duration;

use anyhow::{Result, ensure};
use nightferry_devservers::free_port;

use crate::args::{Args, Section};
use crate::client::{self, Api, Uploaded};
use crate::quiet::{Quiet, cores};
use crate::report::{Goal, Report};
use crate::stats::{mebibytes, median, seconds, speedup, spread};
use crate::subject::Subject;
use crate::world::{Random, World};

const MIB: u64 = 1024 * 1024;

/// Measures uploads and downloads, as selected.
pub(crate) async fn run(world: &World, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let mib = args.scaled(1024);
    let file = world.files().join("large.bin");
    Random::new(1, u64::from(mib) * MIB).write_to(&file)?;
    let (context, _) = world.install("transfers", "cloud-files").await?;
    drop(context);
    let port = free_port()?;
    let mut settings = world.settings("transfers", "cloud-files");
    settings.push(("server.port".to_owned(), port.to_string()));
    let mut subject = Subject::start("serve", &settings, world.folder())?;
    let api = Api::sign_in(&mut subject, port).await?;

    // The first transfers of a new server create its volumes; they are not measured.
    client::put(&file, &client::presigned_put(world.local(), "warm-up").await?).await?;
    let (_, uploaded) = api.upload(&file, "warm-up.bin").await?;
    ensure!(
        api.hash_of_download(&uploaded).await? == uploaded.sha256,
        "the download differs from the upload"
    );

    let size = if args.scale < 1.0 { format!("{mib} MiB") } else { "1 GiB".to_owned() };
    if args.wants(Section::Upload) {
        uploads(world, &api, &subject, &file, &size, args.repeat.unwrap_or(4), quiet, report).await?;
    }
    if args.wants(Section::Download) {
        downloads(&api, &subject, &uploaded, &size, args.repeat.unwrap_or(7), quiet, report).await?;
    }
    report.note(format!("API, peak memory after these transfers: {}", mebibytes(subject.peak_memory_kib()?)));
    subject.stop().await
}

#[allow(clippy::too_many_arguments, reason = "the inputs of a measurement")]
async fn uploads(
    world: &World,
    api: &Api,
    subject: &Subject,
    file: &std::path::Path,
    size: &str,
    repeat: u32,
    quiet: &mut Quiet,
    report: &mut Report,
) -> Result<()> {
    eprintln!("upload of {size}, {repeat} times on each side");
    let (mut ours, mut direct, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    let mut key = 0;
    for round in 0..repeat {
        for side in order(round) {
            key += 1;
            match side {
                Side::Ours => {
                    let before = subject.cpu()?;
                    let name = format!("upload-{key}");
                    let mut tries = 0;
                    let (took, _) = quiet
                        .measure(async || {
                            tries += 1;
                            api.upload(file, &format!("{name}-{tries}.bin")).await
                        })
                        .await?;
                    ours.push(took);
                    cpu += subject.cpu()?.saturating_sub(before) / tries;
                }
                Side::Peer => {
                    let mut tries = 0;
                    let took = quiet
                        .measure(async || {
                            tries += 1;
                            let url = client::presigned_put(world.local(), &format!("direct-{key}-{tries}"))
                                .await?;
                            client::put(file, &url).await
                        })
                        .await?;
                    direct.push(took);
                }
            }
        }
    }
    conclude(
        &format!("upload of {size}, one client"),
        "presigned PUT",
        &ours,
        &direct,
        Goal::AtLeast(0.9),
        report,
    );
    note_cpu("an upload", cpu / repeat, report);
    Ok(())
}

async fn downloads(
    api: &Api,
    subject: &Subject,
    uploaded: &Uploaded,
    size: &str,
    repeat: u32,
    quiet: &mut Quiet,
    report: &mut Report,
) -> Result<()> {
    eprintln!("download of {size}, {repeat} times on each side");
    let url = api.presigned_get(uploaded).await?;
    client::get(&url).await?;
    let (mut ours, mut direct, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for round in 0..repeat {
        for side in order(round) {
            match side {
                Side::Ours => {
                    let before = subject.cpu()?;
                    let mut tries = 0;
                    let took = quiet
                        .measure(async || {
                            tries += 1;
                            api.download(uploaded).await
                        })
                        .await?;
                    ours.push(took);
                    cpu += subject.cpu()?.saturating_sub(before) / tries;
                }
                Side::Peer => direct.push(quiet.measure(async || client::get(&url).await).await?),
            }
        }
    }
    conclude(
        &format!("download of {size}, one client"),
        "presigned GET",
        &ours,
        &direct,
        Goal::AtLeast(0.7),
        report,
    );
    note_cpu("a download", cpu / repeat, report);
    Ok(())
}

/// The side to measure next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    /// Nightferry.
    Ours,
    /// The baseline.
    Peer,
}

/// Both sides, in alternating order.
pub(crate) fn order(round: u32) -> [Side; 2] {
    if round.is_multiple_of(2) { [Side::Ours, Side::Peer] } else { [Side::Peer, Side::Ours] }
}

/// Adds the row of a comparison of speeds.
pub(crate) fn conclude(
    what: &str,
    peer: &str,
    ours: &[Duration],
    theirs: &[Duration],
    goal: Goal,
    report: &mut Report,
) {
    let ratio = speedup(median(ours), median(theirs));
    let (low, high) = spread(ours, theirs);
    let shown = format!("**{ratio:.2}** ({low:.2} to {high:.2})");
    report.compare(
        what,
        seconds(median(ours)),
        format!("{peer}: {}", seconds(median(theirs))),
        (ratio, shown),
        goal,
    );
}

fn note_cpu(what: &str, cpu: Duration, report: &mut Report) {
    report.note(format!(
        "{what} costs the API {} of processor time, on a machine with {} processors that client and store share",
        seconds(cpu),
        cores()
    ));
}
