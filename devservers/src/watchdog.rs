//! A tiny shell beside each server that stops the server when this process is gone, however it went.
//! It waits on a pipe whose other end only we hold, so it needs neither unsafe code nor a particular system;
//! dropping the [`Watchdog`] closes the pipe too, and so stops the server.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::UpError;
use crate::server::StopSignal;

/// After the pipe closes: the signal that asks politely, then up to ten seconds, then the one that does not ask, and
/// away with the files that the server leaves behind.
const SCRIPT: &str = r#"
pid=$1 signal=$2
shift 2
read -r _
kill -"$signal" "$pid" 2>/dev/null
i=0
while [ "$i" -lt 100 ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; i=$((i + 1)); done
kill -KILL "$pid" 2>/dev/null
rm -f "$@"
"#;

/// Holds the pipe that keeps one server alive.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts watching over the process `pid`.
    pub(crate) fn over(pid: u32, signal: StopSignal, leaves_behind: &[PathBuf]) -> Result<Self, UpError> {
        let program = PathBuf::from("/bin/sh");
        let shell = Command::new(&program)
            .args(["-c", SCRIPT, "nightferry-watchdog"])
            .arg(pid.to_string())
            .arg(signal.name())
            .args(leaves_behind)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(Path::new("/"))
            // Ctrl-C on the terminal is for us alone: we stop the servers in their order.
            .process_group(0)
            .spawn()
            .map_err(|source| UpError::Spawn { program, source })?;
        Ok(Self { shell })
    }

    /// Ends the watch because the server has ended.
    pub(crate) fn dismiss(mut self) {
        // Both fail only when the shell is gone already, which is what is wanted.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
