//! A small shell process for each server that stops the server when this process is gone for any reason. It waits on a
//! pipe whose other end is held only by this process, so it needs neither unsafe code nor a particular system; dropping
//! the [`Watchdog`] also closes the pipe, and thereby stops the server.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{UpError, io_error};
use crate::server::StopSignal;

/// After the pipe closes: the stop signal, then up to ten seconds, then SIGKILL, and removal of the files that the
/// server leaves behind.
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

/// The pipe that keeps one server running.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn over(pid: u32, signal: StopSignal, leaves_behind: &[PathBuf]) -> Result<Self, UpError> {
        let program = Path::new("/bin/sh");
        let shell = Command::new(program)
            .args(["-c", SCRIPT, "nightferry-watchdog"])
            .arg(pid.to_string())
            .arg(signal.name())
            .args(leaves_behind)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(Path::new("/"))
            // Ctrl-C on the terminal is meant for this process only, which stops the servers in order.
            .process_group(0)
            .spawn()
            .map_err(io_error("run", program))?;
        Ok(Self { shell })
    }

    /// Ends the watch after the server has stopped.
    pub(crate) fn dismiss(mut self) {
        // Both fail only if the shell is already gone, which is intended.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
