//! Servers left over from an earlier run: recorded in a pid file, recognised by their command line, stopped. A process
//! is stopped only if its command line identifies it as ours; a reused process id is left alone.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::sleep;

use crate::error::{UpError, io_error};
use crate::server::StopSignal;

const GRACE: Duration = Duration::from_secs(10);
const KILLED_WITHIN: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) stop_signal: StopSignal,
    pub(crate) marker: OsString,
}

impl PidFile {
    /// Four lines: process id, stop signal, name, and the argument that identifies the process as ours.
    pub(crate) fn write(&self, path: &Path) -> Result<(), UpError> {
        let mut bytes = format!("{}\n{}\n{}\n", self.pid, self.stop_signal.name(), self.name).into_bytes();
        bytes.extend_from_slice(self.marker.as_bytes());
        fs::write(path, bytes).map_err(io_error("write", path))
    }

    fn read(path: &Path) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
        let pid = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
        let stop_signal = match lines.next()? {
            b"INT" => StopSignal::Interrupt,
            b"TERM" => StopSignal::Terminate,
            _ => return None,
        };
        let name = String::from_utf8(lines.next()?.to_vec()).ok()?;
        Some(Self { name, pid, stop_signal, marker: OsString::from_vec(lines.next()?.to_vec()) })
    }

    /// Stops the server in the pid file of an earlier run, if it is still running, and removes the file.
    pub(crate) async fn stop_leftover(path: &Path) -> Result<(), UpError> {
        // A missing or incomplete file names no process that could be identified as ours.
        let Some(noted) = Self::read(path) else { return Ok(()) };
        if noted.send_stop(noted.stop_signal.signal(), GRACE).await
            || noted.send_stop(Signal::KILL, KILLED_WITHIN).await
        {
            return fs::remove_file(path).map_err(io_error("remove", path));
        }
        Err(does_not_end(&noted.name, noted.pid))
    }

    /// Signals the process while it is ours; returns true once it is gone.
    async fn send_stop(&self, signal: Signal, within: Duration) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return true };
        if !self.is_ours() {
            return true;
        }
        // A failure is detected below: the process still exists at the deadline.
        let _ = kill_process(pid, signal);
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if test_kill_process(pid).is_err() || !self.is_ours() {
                return true;
            }
            sleep(POLL).await;
        }
        false
    }

    fn is_ours(&self) -> bool {
        command_line_has(self.pid, &self.marker)
    }
}

pub(crate) fn does_not_end(name: &str, pid: u32) -> UpError {
    UpError::Other(format!(
        "{name} (pid {pid}) does not end, even after SIGKILL: end that process and try again"
    ))
}

/// The short name of a running process.
pub(crate) fn process_name(pid: u32) -> Option<String> {
    if let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) {
        return Some(name.trim().to_owned());
    }
    let ps = Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output().ok()?;
    let name = String::from_utf8(ps.stdout).ok()?;
    let name = Path::new(name.trim()).file_name()?.to_str()?.to_owned();
    Some(name)
}

/// Whether a process is running with exactly this argument.
fn command_line_has(pid: u32, marker: &OsStr) -> bool {
    if Path::new("/proc/self/cmdline").exists() {
        return fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes()));
    }
    Command::new("ps")
        .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
        .output()
        .is_ok_and(|ps| ps.stdout.windows(marker.len().max(1)).any(|window| window == marker.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(pid: u32, marker: &str) -> PidFile {
        PidFile { name: "a server".into(), pid, stop_signal: StopSignal::Terminate, marker: marker.into() }
    }

    #[tokio::test]
    async fn a_leftover_is_stopped_and_its_pid_file_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        let mut child = Command::new("sh")
            .args(["-c", "while :; do sleep 0.1; done", "unlikely-marker"])
            .spawn()
            .unwrap();
        // The system shows the command line only a moment after the program has started.
        while !command_line_has(child.id(), OsStr::new("unlikely-marker")) {
            sleep(POLL).await;
        }
        note(child.id(), "unlikely-marker").write(&path).unwrap();
        PidFile::stop_leftover(&path).await.unwrap();
        assert!(!path.exists());
        assert!(!child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn another_process_with_the_same_id_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        note(child.id(), "-dir=/data/local").write(&path).unwrap();
        PidFile::stop_leftover(&path).await.unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_pid_file_reads_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        let noted = note(4711, "-dir=/data/with space\nand line");
        noted.write(&path).unwrap();
        assert_eq!(PidFile::read(&path), Some(noted));
    }
}
