//! One server process: started, awaited until ready, restarted, stopped. Independent of Postgres and S3 except for the
//! readiness checks.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::account::Account;
use crate::error::{UpError, io_error};
use crate::leftovers::{PidFile, does_not_end};
use crate::watchdog::Watchdog;

const POLL: Duration = Duration::from_millis(20);
/// Only a process that is stuck in the kernel outlives SIGKILL for so long.
const KILLED_WITHIN: Duration = Duration::from_secs(10);
const HTTP_DEADLINE: Duration = Duration::from_secs(2);
/// `HTTP/1.1 200`: the only part of the response that is read.
const STATUS_LINE_START: usize = 12;
const TAIL_BYTES: u64 = 4_096;
const TAIL_LINES: usize = 15;
/// A longer log is rotated when the server starts (one old log is kept).
const LOG_BYTES: u64 = 16 * 1024 * 1024;
/// The environment variables that a server inherits. All others are excluded: `PGPORT`, `AWS_*`, `S3_BUCKET` and so on
/// are meant for Nightferry, and would change the behaviour of the server.
const INHERITED: [&str; 6] = ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "LD_LIBRARY_PATH"];

/// The signal that stops a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Terminate,
    /// SIGINT: Postgres's "fast" shutdown.
    Interrupt,
}

impl StopSignal {
    /// The name as an argument of `kill`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
        }
    }

    pub(crate) const fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::TERM,
            Self::Interrupt => Signal::INT,
        }
    }
}

/// How to determine that a server is ready.
#[derive(Debug, Clone)]
pub enum Ready {
    /// Postgres writes it to the `postmaster.pid` of this data folder, as `pg_ctl -w` reads it.
    Postmaster(PathBuf),
    /// `GET /` returns a status below 500: an S3 server returns 403 once it is ready.
    Http(SocketAddr),
    /// It accepts connections.
    Connects(SocketAddr),
}

/// Everything needed to start and restart a server.
#[derive(Debug, Clone)]
pub struct ServerSpec {
    /// Name in messages.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Environment variables in addition to the inherited ones.
    pub envs: Vec<(&'static str, String)>,
    /// Working directory.
    pub work_dir: PathBuf,
    /// The account it runs under, if not the current one.
    pub account: Option<Account>,
    /// The signal that stops it.
    pub stop_signal: StopSignal,
    /// Log file.
    pub log: PathBuf,
    /// Pid file, for a later run.
    pub pid_file: PathBuf,
    /// The argument by which a later run recognises it.
    pub marker: OsString,
    /// Readiness check.
    pub ready: Ready,
    /// The time limit for becoming ready.
    pub ready_within: Duration,
    /// Files that it leaves behind, to be removed after it has ended.
    pub leaves_behind: Vec<PathBuf>,
}

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// By itself, after its stop signal.
    Gracefully,
    /// Killed after the grace period.
    Killed,
}

/// A running server. Dropping it also stops it, in the background.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    child: Child,
    watchdog: Option<Watchdog>,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(spec: ServerSpec) -> Result<Self, UpError> {
        PidFile::stop_leftover(&spec.pid_file).await?;
        let mut server = spawn(spec)?;
        server.wait_ready().await?;
        Ok(server)
    }

    /// Name in messages.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path and the last lines of its log, or a note if it cannot be read.
    pub(crate) fn log_end(&self) -> String {
        let path = &self.spec.log;
        let read = || {
            let mut file = File::open(path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let tail = match read() {
            Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), TAIL_LINES),
            Err(error) => format!("(the log cannot be read: {error})"),
        };
        format!("{}:\n{tail}", path.display())
    }

    /// Exit status, if it has ended.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, UpError> {
        self.child.try_wait().map_err(io_error("wait for", &self.spec.program))
    }

    /// Restarts it after it has ended.
    pub async fn restart(&mut self) -> Result<(), UpError> {
        self.clean_up();
        *self = spawn(self.spec.clone())?;
        self.wait_ready().await
    }

    /// Sends the stop signal, and kills it after `grace`. Does nothing if the server has already ended.
    pub async fn stop(&mut self, grace: Duration) -> Result<Stopped, UpError> {
        self.signal(self.spec.stop_signal.signal());
        let mut stopped = Stopped::Gracefully;
        if !self.ends_within(grace).await? {
            self.signal(Signal::KILL);
            stopped = Stopped::Killed;
            if !self.ends_within(KILLED_WITHIN).await? {
                return Err(does_not_end(self.name(), self.pid()));
            }
        }
        self.clean_up();
        Ok(stopped)
    }

    async fn ends_within(&mut self, time: Duration) -> Result<bool, UpError> {
        let deadline = Instant::now() + time;
        while self.exited()?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(POLL).await;
        }
        Ok(true)
    }

    fn signal(&self, signal: Signal) {
        // This fails only if the process has ended, and then there is nothing to signal.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    fn clean_up(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        for path in self.spec.leaves_behind.iter().chain([&self.spec.pid_file]) {
            // Most of them no longer exist; a leftover does no harm.
            let _ = fs::remove_file(path);
        }
    }

    async fn wait_ready(&mut self) -> Result<(), UpError> {
        let deadline = Instant::now() + self.spec.ready_within;
        loop {
            let answers = is_ready(&self.spec.ready, self.pid()).await;
            if let Some(status) = self.exited()? {
                self.clean_up();
                let (name, end) = (self.name(), self.log_end());
                return Err(UpError::EndedEarly(format!(
                    "{name} ended while starting ({status}); the end of {end}"
                )));
            }
            if answers {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let end = self.log_end();
                self.stop(Duration::ZERO).await?;
                let (name, seconds) = (self.name(), self.spec.ready_within.as_secs());
                return Err(UpError::NotReady(format!(
                    "{name} was not ready after {seconds} s; the end of {end}"
                )));
            }
            sleep(POLL).await;
        }
    }
}

fn spawn(spec: ServerSpec) -> Result<Server, UpError> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(inherited(&INHERITED))
        .envs(spec.envs.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.work_dir)
        .stdin(Stdio::null())
        // Ctrl-C on the terminal is meant for this process only, which stops the servers in order.
        .process_group(0);
    let log = open_log(&spec.log)?;
    command.stdout(log.try_clone().map_err(io_error("open", &spec.log))?).stderr(log);
    if let Some(account) = spec.account {
        command.uid(account.uid).gid(account.gid);
    }
    let child = command.spawn().map_err(io_error("run", &spec.program))?;
    let mut server = Server { spec, child, watchdog: None };
    if let Err(error) = watch_over(&mut server) {
        server.signal(Signal::KILL);
        // Reaped so that no zombie remains; the status is already known.
        let _ = server.child.wait();
        return Err(error);
    }
    Ok(server)
}

fn watch_over(server: &mut Server) -> Result<(), UpError> {
    let pid = server.pid();
    server.watchdog = Some(Watchdog::over(pid, server.spec.stop_signal, &server.spec.leaves_behind)?);
    PidFile {
        name: server.spec.name.clone(),
        pid,
        stop_signal: server.spec.stop_signal,
        marker: server.spec.marker.clone(),
    }
    .write(&server.spec.pid_file)
}

async fn is_ready(ready: &Ready, pid: u32) -> bool {
    match ready {
        Ready::Connects(address) => TcpStream::connect(address).await.is_ok(),
        Ready::Http(address) => {
            let status = timeout(HTTP_DEADLINE, http_status(*address)).await;
            matches!(status, Ok(Some(..500)))
        }
        Ready::Postmaster(data) => {
            let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let mut lines = text.lines();
            lines.next() == Some(pid.to_string().as_str())
                && lines.nth(6).is_some_and(|status| status.trim() == "ready")
        }
    }
}

/// The status of `GET /`.
async fn http_status(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut start = [0_u8; STATUS_LINE_START];
    stream.read_exact(&mut start).await.ok()?;
    std::str::from_utf8(&start).ok()?.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

fn open_log(path: &Path) -> Result<File, UpError> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES) {
        fs::rename(path, path.with_extension("old.log")).map_err(io_error("set aside", path))?;
    }
    File::options().create(true).append(true).open(path).map_err(io_error("open", path))
}

/// Those of these environment variables that are set.
pub(crate) fn inherited(names: &[&'static str]) -> impl Iterator<Item = (&'static str, OsString)> {
    names.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
