//! The whole set of servers, really started in a temporary folder.

use std::future::pending;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const DEADLINE: Duration = Duration::from_secs(60);

fn options(folder: &Path) -> UpOptions {
    let s3_server = S3Software::Seaweedfs;
    UpOptions {
        data_dir: folder.join("data"),
        port: free_port().unwrap(),
        local_s3_port: free_port().unwrap(),
        cloud_s3_port: free_port().unwrap(),
        s3_server,
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn runs(pid: u32) -> bool {
    // A zombie has ended; its parent has not reaped it yet.
    let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    !state.trim().is_empty() && !state.trim().starts_with('Z')
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn servers_start_respond_restart_after_a_crash_and_stop() {
    let folder = scratch_folder("nightferry-up-").unwrap();
    let options = options(folder.path());
    let mut parts = start_parts(&options, &Quiet).await.unwrap();
    let first_url = parts.database_url.clone();
    let pids = parts.servers_mut().map(|server| server.pid());

    let busy = start_parts(&options, &Quiet).await.unwrap_err().to_string();
    assert!(busy.contains("another `nightferry up`"), "{busy}");
    let other_folder = UpOptions { data_dir: folder.path().join("other"), ..options.clone() };
    let busy = start_parts(&other_folder, &Quiet).await.unwrap_err().to_string();
    assert!(busy.contains(&format!("port {} (local S3 server) is in use", options.local_s3_port)), "{busy}");
    assert!(busy.contains("--local-s3-port"), "{busy}");

    let local = parts.local.server.pid();
    kill("-KILL", local);
    let mut watch = Watch::default();
    let back = async {
        until("the local store responds again", || {
            std::net::TcpStream::connect(("127.0.0.1", options.local_s3_port)).is_ok()
        })
        .await;
    };
    until("the local store is dead", || !runs(local)).await;
    tokio::select! {
        error = watch.until_one_stays_dead(&mut parts, &Quiet) => panic!("{error}"),
        () = back => {}
    }

    parts.stop(pending(), &Quiet).await.unwrap();
    for pid in pids {
        assert!(!runs(pid));
    }

    let parts = start_parts(&options, &Quiet).await.unwrap();
    assert_eq!(parts.database_url, first_url, "the database keeps its port and password");
    parts.stop(pending(), &Quiet).await.unwrap();
}

/// Not a test: the process that the next test kills.
#[tokio::test]
#[ignore = "run by `servers_end_when_their_starter_is_killed`"]
async fn starter() {
    let folder = std::env::var_os("NIGHTFERRY_TEST_STARTER").unwrap();
    let folder = Path::new(&folder);
    let mut parts = start_parts(&options(folder), &Quiet).await.unwrap();
    let pids = parts.servers_mut().map(|server| server.pid().to_string()).join("\n");
    std::fs::write(folder.join("pids.new"), pids).unwrap();
    std::fs::rename(folder.join("pids.new"), folder.join("pids")).unwrap();
    pending::<()>().await;
}

#[tokio::test]
async fn servers_end_when_their_starter_is_killed() {
    let folder = scratch_folder("nightferry-up-").unwrap();
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::starter", "--ignored"])
        .env("NIGHTFERRY_TEST_STARTER", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let noted = folder.path().join("pids");
    until("the servers run", || noted.exists()).await;
    let pids: Vec<u32> =
        std::fs::read_to_string(noted).unwrap().lines().map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| runs(*pid)));

    kill("-KILL", starter.id());
    starter.wait().unwrap();
    // The next start does not wait for the watchdogs: it stops the leftovers of the earlier run itself.
    let options = options(folder.path());
    let parts = start_parts(&options, &Quiet).await.unwrap();
    until("all servers of the killed run have ended", || !pids.iter().any(|pid| runs(*pid))).await;
    parts.stop(pending(), &Quiet).await.unwrap();
}
