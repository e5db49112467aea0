//! Real processes of Nightferry, which can be stopped and killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use uuid::Uuid;

use super::World;
use super::servers::servers;
use super::wait::eventually;

/// Environment variables that a process inherits. All others are removed, because the environment configures
/// Nightferry.
const INHERITED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "LANG", "TZ"];

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Mutex<Child>,
    folder: PathBuf,
}

impl World {
    /// Starts `nightferry` with these arguments as a process that uses the database and the stores of this world.
    pub async fn start_process(&self, arguments: &[&str]) -> Process {
        let folder = servers().await.folder().join(format!("process-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).unwrap();
        // Later settings take precedence.
        let settings: BTreeMap<&str, &str> =
            self.settings().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let file = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
        let child = Command::new(program())
            .args(arguments)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(settings.iter().map(|(key, value)| {
                (format!("NIGHTFERRY__{}", key.replace('.', "__").to_uppercase()), value)
            }))
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Process { child: Mutex::new(child), folder }
    }

    /// Runs `nightferry --json` with these arguments until it ends; returns its exit code and its document.
    pub async fn json_command(&self, arguments: &[&str]) -> (i32, serde_json::Value) {
        let process = self.start_process(&[&["--json"], arguments].concat()).await;
        let code = process.ended().await.code().unwrap();
        let document = serde_json::from_str(&process.stdout())
            .unwrap_or_else(|_| panic!("{arguments:?}: {}", process.output()));
        (code, document)
    }

    /// Starts a worker in a separate process.
    pub async fn start_worker_process(&self) -> Process {
        self.start_process(&["worker"]).await
    }
}

/// The program, next to the folder of the running test program.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("nightferry-under-test");
    assert!(program.exists(), "{} is missing: run the tests with cargo, which builds it", program.display());
    program
}

impl Process {
    /// Sends SIGKILL. Returns when the process has ended.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        // It may have ended already.
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends SIGINT repeatedly until the process has ended.
    pub async fn interrupted(&self) -> ExitStatus {
        eventually("the process ends", || async {
            let ended = self.child.lock().unwrap().try_wait().unwrap();
            if ended.is_none() {
                self.signal("-INT");
            }
            ended
        })
        .await
    }

    /// Sends SIGSTOP: it does nothing until [`Self::resume`], and does not notice.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.lock().unwrap().id().to_string();
        let sent = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Peak memory of the process, in bytes, as reported by Linux.
    pub fn peak_memory(&self) -> u64 {
        let pid = self.child.lock().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> ExitStatus {
        eventually("the process ends", || async { self.child.lock().unwrap().try_wait().unwrap() }).await
    }

    /// Waits until a line of its standard output contains this text, and returns the line.
    pub async fn says(&self, text: &str) -> String {
        eventually(&format!("the process prints {text:?}"), || async {
            let exited = self.child.lock().unwrap().try_wait().unwrap();
            assert!(exited.is_none(), "it ended, {}:\n{}", exited.unwrap(), self.output());
            read(&self.folder.join("stdout")).lines().find(|line| line.contains(text)).map(str::to_owned)
        })
        .await
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.folder.join("stdout"))
    }

    /// All of its output.
    pub fn output(&self) -> String {
        self.stdout() + &read(&self.folder.join("stderr"))
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("output of a process of this test:\n{}", self.output());
        }
    }
}
