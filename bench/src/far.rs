//! Clouds that are far away: syncs over links with latency, and for comparison on the loopback address, against rclone with
//! its default flags and with its best ones, on `SeaweedFS` and on `MinIO`.

use std::time::Duration;

use anyhow::Result;
use nightferry_devservers::find_minio;

use crate::args::{Args, Server};
use crate::quiet::Quiet;
use crate::rclone::{self, Flags};
use crate::relay::Link;
use crate::report::Report;
use crate::sync::{self, FileSet, Workload};
use crate::world::World;
use crate::{KIB, MIB, machine, memory};

const REPEAT: u32 = 3;

const NEAR: Option<Link> = Some(Link { round_trip: Duration::from_millis(40), rate: None });
const FAR: Option<Link> = Some(Link { round_trip: Duration::from_millis(100), rate: None });
const SLOW: Option<Link> = Some(Link { round_trip: Duration::from_millis(40), rate: Some(20_000_000) });

/// The measurements. On a limited link every tool is bound to come close to the limit, so there nothing can be won.
pub(crate) const CASES: [Case; 9] = [
    Case::new(Load::Small, None, 1.3, 1.2),
    Case::new(Load::Small, NEAR, 1.3, 1.3),
    Case::new(Load::Small, FAR, 1.3, 1.3),
    Case::new(Load::Mix, NEAR, 1.3, 1.3),
    Case::new(Load::Mix, FAR, 1.3, 1.3),
    Case::new(Load::Mix, SLOW, 0.95, 0.95),
    Case::new(Load::Large, None, 1.0, 1.0),
    Case::new(Load::Large, NEAR, 1.0, 1.0),
    Case::new(Load::Large, FAR, 1.1, 1.1),
];

/// A load, the way to the cloud store, and the goals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    load: Load,
    link: Option<Link>,
    on_seaweedfs: f64,
    on_minio: f64,
}

impl Case {
    const fn new(load: Load, link: Option<Link>, on_seaweedfs: f64, on_minio: f64) -> Self {
        Self { load, link, on_seaweedfs, on_minio }
    }

    const fn goal(self, server: Server) -> f64 {
        match server {
            Server::Seaweedfs => self.on_seaweedfs,
            Server::Minio => self.on_minio,
        }
    }

    /// Flags that may be the fastest ones of rclone.
    fn flags(self) -> &'static [Flags] {
        match (self.load, self.link) {
            (Load::Small, None) => &[rclone::DEFAULT, rclone::SMALL, rclone::MANY],
            (Load::Small, Some(_)) => &[rclone::DEFAULT, rclone::MANY],
            (Load::Mix | Load::Large, _) => &[rclone::DEFAULT, rclone::MANY, rclone::MANY_PARTS],
        }
    }
}

/// The files to sync.
#[derive(Debug, Clone, Copy)]
enum Load {
    Small,
    Mix,
    Large,
}

impl Load {
    /// Short name, of the database and the buckets.
    const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Mix => "mix",
            Self::Large => "large",
        }
    }

    fn files(self, args: &Args) -> Vec<FileSet> {
        let set = |count, size| FileSet { count: args.scaled(count), size };
        match self {
            Self::Small => vec![set(1000, 16 * KIB)],
            Self::Mix => vec![set(300, 16 * KIB), set(40, MIB), set(3, 64 * MIB)],
            Self::Large => vec![set(6, 128 * MIB)],
        }
    }
}

/// The servers to measure on: those that were selected, and `MinIO` if it is installed.
pub(crate) fn servers(args: &Args, report: &mut Report) -> Result<Vec<Server>> {
    let mut servers = vec![args.s3_server];
    if args.s3_server != Server::Minio {
        if find_minio()?.is_some() {
            servers.push(Server::Minio);
            report.note(format!("the rows of MinIO: {}", machine::s3_software(Server::Minio)));
        } else {
            report.note(
                "NOT measured on MinIO, which is not installed: `scripts/install-minio` compiles it, and \
                 NIGHTFERRY_MINIO names an existing program"
                    .to_owned(),
            );
        }
    }
    Ok(servers)
}

/// Measures one case on new servers.
pub(crate) async fn run(
    world: &World,
    args: &Args,
    (server, case): (Server, Case),
    quiet: &mut Quiet,
    report: &mut Report,
) -> Result<()> {
    let files = case.load.files(args);
    let on = match server {
        Server::Seaweedfs => "SeaweedFS",
        Server::Minio => "MinIO",
    };
    let way = case.link.map_or_else(|| "loopback".to_owned(), |link| link.to_string());
    let title = format!("{}, {on}, {way}", described(&files));
    let workload = Workload {
        name: case.load.name(),
        title: title.clone(),
        files,
        link: case.link,
        flags: case.flags(),
        goal: case.goal(server),
        repeat: REPEAT,
    };
    let peak_kib = sync::run(world, args, &workload, quiet, report).await?;
    memory::judge(&format!("peak memory of the worker, {title}"), peak_kib, report);
    Ok(())
}

fn described(files: &[FileSet]) -> String {
    let sets = files.iter().map(|FileSet { count, size }| match size / MIB {
        0 => format!("{count} × {} KiB", size / KIB),
        mib => format!("{count} × {mib} MiB"),
    });
    sets.collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn loads_are_scaled_and_described() {
        let of = |load: Load, scale: &str| {
            described(&load.files(&Args::parse_from(["nightferry-bench", "--scale", scale])))
        };
        assert_eq!(of(Load::Mix, "1"), "300 × 16 KiB + 40 × 1 MiB + 3 × 64 MiB");
        assert_eq!(of(Load::Large, "0.1"), "1 × 128 MiB");
    }

    #[test]
    fn rclone_is_always_measured_with_its_default_flags_and_with_others() {
        for case in CASES {
            assert!(case.flags().len() > 1 && case.flags().contains(&rclone::DEFAULT), "{case:?}");
        }
    }
}
