//! The measured programs: `nightferry serve` and `nightferry worker` as separate processes of the release binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::proc;

const LOG_LINES: usize = 20;
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// A running process. Killed when dropped.
pub(crate) struct Subject {
    child: Child,
    /// Process id.
    pub(crate) pid: u32,
    name: String,
    log: PathBuf,
}

impl Subject {
    /// Starts `nightferry COMMAND` with these settings; `folder` is its working directory and contains its log.
    pub(crate) fn start(command: &str, settings: &[(String, String)], folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{command}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        // The configuration of the machine must have no effect.
        let nothing = folder.join("nothing.toml");
        std::fs::write(&nothing, "")?;
        let child = Command::new(program()?)
            .arg(command)
            .env_clear()
            .envs(["PATH", "HOME", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("NIGHTFERRY_CONFIG", &nothing)
            .envs(settings.iter().map(|(key, value)| (variable(key), value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in the terminal is only handled by the benchmark, which stops its processes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().context("the process has already ended")?;
        Ok(Self { child, pid, name: format!("nightferry {command}"), log })
    }

    /// Fails with the end of the log if the process has ended.
    pub(crate) fn alive(&mut self) -> Result<()> {
        let status = self.child.try_wait()?;
        ensure!(
            status.is_none(),
            "{} ended early:\n{}",
            self.name,
            std::fs::read_to_string(&self.log).unwrap_or_default()
        );
        Ok(())
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        proc::cpu(self.pid)
    }

    /// Peak memory so far, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> Result<u64> {
        proc::peak_memory_kib(self.pid)
    }

    /// Stops the process and waits for it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let ended = tokio::time::timeout(STOPPED_WITHIN, self.child.wait()).await;
        let status = ended.with_context(|| format!("{} did not stop", self.name))??;
        ensure!(status.success(), "{} ended with {status}, see {}", self.name, self.log.display());
        Ok(())
    }
}

/// The `nightferry` binary next to this program.
pub(crate) fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("nightferry");
    ensure!(program.exists(), "{} is missing: run `make build`", program.display());
    Ok(program)
}

/// The last lines of the logs of all processes, to diagnose a failure.
pub(crate) fn log_tails(folder: &Path) -> String {
    let tails = ["serve", "worker"].into_iter().filter_map(|command| {
        let text = std::fs::read_to_string(folder.join(format!("{command}.log"))).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..)?.join("\n");
        Some(format!("the end of the log of nightferry {command}:\n{tail}"))
    });
    tails.collect::<Vec<_>>().join("\n")
}

/// `stores.s3.bucket` as `NIGHTFERRY__STORES__S3__BUCKET`.
fn variable(key: &str) -> String {
    format!("NIGHTFERRY__{}", key.to_uppercase().replace('.', "__"))
}

/// The cost of a completed process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Elapsed time.
    pub(crate) wall: Duration,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Peak memory, in KiB.
    pub(crate) peak_kib: u64,
}

/// Runs a program until it ends. Its peak memory is sampled every few milliseconds, because the kernel discards it when
/// the process ends; its processor time is read after it ended and before it is waited for.
pub(crate) async fn cost_of(mut command: Command) -> Result<Cost> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    let start = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let id = child.id().context("the process has already ended")?;
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("a process id")?;
    let mut peak_kib = 0;
    while waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)?
        .is_none()
    {
        // It can end between two samples.
        peak_kib = proc::peak_memory_kib(id).unwrap_or(peak_kib);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let wall = start.elapsed();
    let cpu = proc::cpu(id)?;
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Cost { wall, cpu, peak_kib })
}
