//! Postgres on the loopback address: its database folder is created once, then it is started with the settings required
//! here. Sends no SQL except the statement that creates the first database.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::account::Account;
use crate::error::{UpError, io_error, remove_folder};
use crate::find::PostgresBin;
use crate::leftovers::process_name;
use crate::server::{Ready, Server, ServerSpec, StopSignal, inherited, last_lines};

/// Crash recovery of a large write-ahead log can take a while.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Name of the superuser and of the first database.
pub(crate) const NAME: &str = "nightferry";

/// Whether writes must survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Data survives a crash of the machine.
    Durable,
    /// No: for tests, which start from scratch after a crash.
    Volatile,
}

/// How to start one Postgres.
#[derive(Debug, Clone)]
pub struct PostgresSpec<'a> {
    /// The installation.
    pub bin: &'a PostgresBin,
    /// The folder that contains the database folder `data`; it must exist, and `account` must be able to reach it.
    pub home: &'a Path,
    /// The account it runs under, if not the current one.
    pub account: Option<Account>,
    /// Port.
    pub port: u16,
    /// Password of the superuser `nightferry`.
    pub password: &'a str,
    /// Whether writes must survive a power failure.
    pub sync: Sync,
    /// The maximum number of connections.
    pub connections: u32,
    /// Log file.
    pub log: PathBuf,
    /// Pid file.
    pub pid_file: PathBuf,
}

impl PostgresSpec<'_> {
    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The URL of one of its databases for clients.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{NAME}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }
}

/// The major version that created the database folder below `home`, if there is one.
pub(crate) fn recorded_major(home: &Path) -> Option<u32> {
    fs::read_to_string(home.join("data/PG_VERSION")).ok()?.trim().parse().ok()
}

/// Creates the database folder with the superuser and the database `nightferry`, unless it exists.
///
/// The folder is created next to its destination and renamed into place, so an existing folder is always complete.
pub fn init_postgres(spec: &PostgresSpec<'_>) -> Result<(), UpError> {
    let data = spec.data();
    if data.exists() {
        return Ok(());
    }
    let new = spec.home.join("data.new");
    let password_file = spec.home.join("password.new");
    write_password(spec, &password_file)?;
    // C.UTF-8 sorts by code point and supports the case of all letters; C is used on systems without it.
    let made = init_with_locale(spec, &new, &password_file, "C.UTF-8")
        .or_else(|_| init_with_locale(spec, &new, &password_file, "C"))
        .and_then(|()| create_database(spec, &new));
    fs::remove_file(&password_file).map_err(io_error("remove", &password_file))?;
    made?;
    fs::rename(&new, &data).map_err(io_error("put in place", &data))
}

fn write_password(spec: &PostgresSpec<'_>, path: &Path) -> Result<(), UpError> {
    // A file left over from a crash may belong to another account.
    let _ = fs::remove_file(path);
    let file = fs::File::options().create_new(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| writeln!(file, "{}", spec.password)).map_err(io_error("write", path))?;
    spec.account.map_or(Ok(()), |account| account.own(path))
}

fn init_with_locale(
    spec: &PostgresSpec<'_>,
    new: &Path,
    password_file: &Path,
    locale: &str,
) -> Result<(), UpError> {
    remove_folder(new)?;
    fs::DirBuilder::new().mode(0o700).create(new).map_err(io_error("create", new))?;
    if let Some(account) = spec.account {
        account.own(new)?;
    }
    let mut initdb = command(spec, &spec.bin.initdb());
    initdb.arg("-D").arg(new).args(["-U", NAME, "-E", "UTF8", "-A", "scram-sha-256"]);
    initdb.arg(format!("--locale={locale}")).arg("--pwfile").arg(password_file);
    if spec.sync == Sync::Volatile {
        initdb.arg("--no-sync");
    }
    let output = initdb.stdin(Stdio::null()).output().map_err(io_error("run", &spec.bin.initdb()))?;
    check("initdb", &output)
}

/// Creates the first database in single-user mode, which needs neither a client program nor a port.
fn create_database(spec: &PostgresSpec<'_>, data: &Path) -> Result<(), UpError> {
    let program = spec.bin.postgres();
    let mut postgres = command(spec, &program);
    postgres.args(["--single", "-c", "exit_on_error=on", "-D"]).arg(data).arg("postgres");
    if spec.sync == Sync::Volatile {
        postgres.args(["-c", "fsync=off"]);
    }
    let mut single = postgres
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io_error("run", &program))?;
    if let Some(mut stdin) = single.stdin.take() {
        // If the statement fails, the exit status reports it.
        let _ = writeln!(stdin, "CREATE DATABASE {NAME};");
    }
    let output = single.wait_with_output().map_err(io_error("run", &program))?;
    check("creating the database", &output)
}

/// Starts Postgres on a folder created by [`init_postgres`], and waits until it accepts connections.
pub async fn start_postgres(spec: &PostgresSpec<'_>) -> Result<Server, UpError> {
    let data = spec.data();
    remove_stale_lock(&data)?;
    let mut settings = vec![
        format!("port={}", spec.port),
        "listen_addresses=127.0.0.1".to_owned(),
        // No Unix socket, which would need a short, writable and private folder.
        "unix_socket_directories=".to_owned(),
        format!("max_connections={}", spec.connections),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
    ];
    if spec.sync == Sync::Volatile {
        let faster = [
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            // Compiling a query takes longer than running it on the few rows of a test.
            "jit=off",
            // With a database for each test, the default of one minute starts many processes every second.
            "autovacuum_naptime=1h",
        ];
        settings.extend(faster.map(str::to_owned));
    }
    let mut args: Vec<OsString> = vec!["-D".into(), data.clone().into()];
    args.extend(settings.into_iter().flat_map(|setting| ["-c".into(), setting.into()]));
    Server::start(ServerSpec {
        name: "Postgres".to_owned(),
        program: spec.bin.postgres(),
        args,
        envs: Vec::new(),
        work_dir: spec.home.to_owned(),
        account: spec.account,
        stop_signal: StopSignal::Interrupt,
        log: spec.log.clone(),
        pid_file: spec.pid_file.clone(),
        marker: data.clone().into(),
        ready: Ready::Postmaster(data),
        ready_within: READY_WITHIN,
        leaves_behind: Vec::new(),
    })
    .await
}

/// Removes a `postmaster.pid` whose process id belongs to a program other than Postgres.
///
/// Postgres takes any running process with that id for its predecessor: after a container restart, where ids start
/// again from one, it would refuse to start. A running Postgres is never affected.
fn remove_stale_lock(data: &Path) -> Result<(), UpError> {
    let lock = data.join("postmaster.pid");
    let text = fs::read_to_string(&lock).unwrap_or_default();
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse().ok()) else { return Ok(()) };
    if process_name(pid).is_some_and(|name| !name.starts_with("post")) {
        fs::remove_file(&lock).map_err(io_error("remove", &lock))?;
    }
    Ok(())
}

fn command(spec: &PostgresSpec<'_>, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(spec.home).env_clear().envs(inherited(&["PATH", "TZ", "LD_LIBRARY_PATH"]));
    if let Some(account) = spec.account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

fn check(what: &str, output: &Output) -> Result<(), UpError> {
    if output.status.success() {
        return Ok(());
    }
    let words = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let end = last_lines(&String::from_utf8_lossy(&words), 15);
    Err(UpError::Other(format!("{what} failed ({}):\n{end}", output.status)))
}
