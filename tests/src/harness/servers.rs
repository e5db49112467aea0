//! One Postgres and two S3 servers for a whole test run, started on first use, with isolation by database and bucket.
//! Tests have no common end, so a watchdog stops the servers when the test process has ended, for any reason.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use diesel_async::{AsyncConnection as _, AsyncPgConnection, SimpleAsyncConnection as _};
use nightferry_devservers::{
    Account, PartsCache, PostgresBin, PostgresSpec, Quiet, S3_ACCESS_KEY, S3_SECRET_KEY, S3Kind, S3Spec,
    SeaweedPorts, Server, Sync, UpError, free_port, init_postgres, scratch_folder, start_postgres, start_s3,
};
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

const CONNECTIONS: u32 = 400;
const PASSWORD: &str = "nightferry-tests";
/// Another test run may have taken a port that was free a moment ago.
const START_ATTEMPTS: u32 = 3;
const SQL_WITHIN: Duration = Duration::from_secs(60);

static SERVERS: OnceCell<Servers> = OnceCell::const_new();

/// The servers of this test run, started at the first call.
pub async fn servers() -> &'static Servers {
    SERVERS.get_or_init(Servers::start).await
}

/// A Postgres, a local S3 server and a cloud S3 server.
#[derive(Debug)]
pub struct Servers {
    /// The database server.
    pub postgres: Postgres,
    /// The local store: `SeaweedFS`, or `MinIO` when `NIGHTFERRY_TEST_S3` is `minio` or `minio-both`.
    pub local: S3,
    /// The cloud store: `SeaweedFS`, or `MinIO` when `NIGHTFERRY_TEST_S3` is `minio-both`.
    pub cloud: S3,
    /// Deleted with its contents when the test run is over.
    folder: PathBuf,
    _janitor: Child,
}

impl Servers {
    async fn start() -> Self {
        let folder = scratch_folder("nightferry-tests-").unwrap().keep();
        let janitor = janitor(&folder);
        let cache = parts_cache();
        let (local, cloud) = match std::env::var("NIGHTFERRY_TEST_S3").unwrap_or_default().as_str() {
            "" | "seaweedfs" => (S3Kind::Seaweedfs, S3Kind::Seaweedfs),
            "minio" => (S3Kind::Minio, S3Kind::Seaweedfs),
            "minio-both" => (S3Kind::Minio, S3Kind::Minio),
            other => panic!("NIGHTFERRY_TEST_S3 is {other:?}: use seaweedfs, minio or minio-both"),
        };
        let (postgres, local, cloud) = tokio::join!(
            Postgres::start(&folder, &cache),
            S3::start("local", local, &folder, &cache),
            S3::start("cloud", cloud, &folder, &cache),
        );
        Self { postgres, local, cloud, folder, _janitor: janitor }
    }
}

impl Servers {
    /// A folder for files of tests; deleted when the test run is over.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Where downloaded servers are stored.
pub(super) fn parts_cache() -> PartsCache {
    PartsCache::locate(&std::env::temp_dir().join("nightferry-tests-cache"))
}

/// A shell that deletes the folder of the run once this process, and every server noted in the folder, has ended.
fn janitor(folder: &Path) -> Child {
    const SCRIPT: &str = r#"
        read -r _
        i=0
        for file in "$1"/*.pid "$1"/*/*.pid; do
            read -r pid < "$file" || continue
            while kill -0 "$pid" 2>/dev/null && [ "$i" -lt 300 ]; do sleep 0.1; i=$((i + 1)); done
        done
        rm -rf "$1"
    "#;
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "nightferry-tests-janitor"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .unwrap()
}

/// Starts a server again on other ports if it ended early.
async fn start_anew<T>(mut start: impl AsyncFnMut() -> Result<T, UpError>) -> T {
    for _ in 1..START_ATTEMPTS {
        match start().await {
            Err(UpError::EndedEarly { .. }) => {}
            other => return other.unwrap_or_else(|error| panic!("{error}")),
        }
    }
    start().await.unwrap_or_else(|error| panic!("{error}"))
}

/// The shared database server.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: u16,
    templates: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
}

/// A database of one test.
#[derive(Debug, Clone)]
pub struct Database {
    /// Name.
    pub name: String,
    /// The URL for clients, including the password.
    pub url: String,
}

impl Postgres {
    async fn start(folder: &Path, cache: &PartsCache) -> Self {
        let (server, port) = start_a_postgres(folder, cache, CONNECTIONS).await;
        Self { server, port, templates: Mutex::default() }
    }

    /// The URL of a database of this server, including the password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://nightferry:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// A new database copied from the named template. The first call for a name creates the template: an empty database
    /// that `migrate` fills through its URL.
    pub async fn fresh_database(&self, template: &str, migrate: impl AsyncFnOnce(&str)) -> Database {
        let cell = Arc::clone(self.templates.lock().await.entry(template.to_owned()).or_default());
        let name = format!("template_{template}");
        cell.get_or_init(async || {
            self.run(&format!("CREATE DATABASE {name}")).await;
            migrate(&self.url(&name)).await;
            // A pool that the migration used may still have open connections; a template must have none.
            self.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true")).await;
            self.run(&format!(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
            ))
            .await;
        })
        .await;
        self.copy_of(&name).await
    }

    async fn copy_of(&self, template: &str) -> Database {
        let name = format!("test_{}", Uuid::new_v4().simple());
        self.run(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = self.url(&name);
        Database { name, url }
    }

    /// Runs one statement in the maintenance database.
    async fn run(&self, sql: &str) {
        let ran = tokio::time::timeout(SQL_WITHIN, async {
            let mut connection = AsyncPgConnection::establish(&self.url("postgres")).await.unwrap();
            connection.batch_execute(sql).await
        });
        ran.await.expect("Postgres responds in time").unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Creates and starts a Postgres whose files are in `folder`. Returns its port, too.
async fn start_a_postgres(folder: &Path, cache: &PartsCache, connections: u32) -> (Server, u16) {
    let account = Account::for_postgres();
    let bin = PostgresBin::find_or_fetch(None, account, cache, &Quiet).await;
    let bin =
        bin.unwrap_or_else(|error| panic!("{error}")).expect("a downloaded Postgres reports its version");
    let home = folder.join("postgres");
    std::fs::create_dir(&home).unwrap();
    if let Some(account) = account {
        account.own(&home).unwrap();
    }
    start_anew(async || {
        let port = free_port()?;
        let spec = PostgresSpec {
            bin: &bin,
            home: &home,
            account,
            port,
            password: PASSWORD,
            sync: Sync::Volatile,
            connections,
            log: folder.join("postgres.log"),
            pid_file: folder.join("postgres.pid"),
        };
        init_postgres(&spec)?;
        Ok((start_postgres(&spec).await?, port))
    })
    .await
}

/// A Postgres for one test, which can stop and restart it.
#[derive(Debug)]
pub struct OwnPostgres {
    server: Mutex<Server>,
    port: u16,
}

impl OwnPostgres {
    const CONNECTIONS: u32 = 60;
    const STOPS_WITHIN: Duration = Duration::from_secs(20);

    /// Starts one with an empty database.
    pub async fn start() -> Self {
        let folder = servers().await.folder.join(Uuid::new_v4().simple().to_string());
        std::fs::create_dir(&folder).unwrap();
        let (server, port) = start_a_postgres(&folder, &parts_cache(), Self::CONNECTIONS).await;
        Self { server: Mutex::new(server), port }
    }

    /// The URL of its database, including the password.
    pub fn url(&self) -> String {
        format!("postgres://nightferry:{PASSWORD}@127.0.0.1:{}/nightferry", self.port)
    }

    /// Stops it; connections break and new ones are refused.
    pub async fn stop(&self) {
        self.server.lock().await.stop(Self::STOPS_WITHIN).await.unwrap();
    }

    /// Starts it again, on the same port.
    pub async fn restart(&self) {
        self.server.lock().await.restart().await.unwrap();
    }
}

/// A shared S3 server.
#[derive(Debug)]
pub struct S3 {
    server: Server,
    /// The software of the server.
    pub kind: S3Kind,
    /// The address that a fault proxy forwards to.
    pub address: SocketAddr,
    /// Access key with all rights.
    pub access_key: &'static str,
    /// The secret key.
    pub secret_key: &'static str,
}

impl S3 {
    async fn start(name: &str, kind: S3Kind, folder: &Path, cache: &PartsCache) -> Self {
        let program = kind.program(cache, &Quiet).await.unwrap_or_else(|error| panic!("{error}"));
        let (server, port) = start_anew(async || {
            let port = free_port()?;
            // Each attempt gets a separate folder: SeaweedFS stores the ports that it used.
            let data = folder.join(format!("{name}-{port}"));
            std::fs::create_dir(&data).unwrap();
            if kind == S3Kind::Seaweedfs {
                make_room_for_buckets(&data);
            }
            let server = start_s3(S3Spec {
                name,
                kind,
                program: &program,
                data: &data,
                s3_port: port,
                ports: SeaweedPorts::free()?,
                log: folder.join(format!("{name}.log")),
                pid_file: folder.join(format!("{name}.pid")),
                identities: folder.join(format!("{name}.json")),
            })
            .await?;
            Ok((server, port))
        })
        .await;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { server, kind, address, access_key: S3_ACCESS_KEY, secret_key: S3_SECRET_KEY }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// A bucket name that no other test uses. The bucket does not exist yet.
    pub fn fresh_bucket_name(&self) -> String {
        format!("test-{}", Uuid::new_v4().simple())
    }
}

/// Every bucket needs separate volumes: seven at once, of a total determined by the free disk space. Hundreds of tests
/// with a bucket each need a higher total, and fewer volumes for each.
fn make_room_for_buckets(data: &Path) {
    std::fs::write(data.join("mini.options"), "volume.max=20000\n").unwrap();
    std::fs::write(data.join("master.toml"), "[master.volume_growth]\ncopy_1 = 2\n").unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn databases_are_copies_of_a_template_that_is_made_once() {
        let postgres = &servers().await.postgres;
        let mut migrations = 0;
        for _ in 0..2 {
            let database = postgres
                .fresh_database("harness", async |url| {
                    migrations += 1;
                    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
                    connection.batch_execute("CREATE TABLE kept (id int)").await.unwrap();
                })
                .await;
            let mut connection = AsyncPgConnection::establish(&database.url).await.unwrap();
            connection.batch_execute("ALTER TABLE kept RENAME TO mine").await.unwrap();
        }
        assert_eq!(migrations, 1);
    }

    #[tokio::test]
    async fn both_stores_respond_through_a_proxy() {
        let servers = servers().await;
        for store in [&servers.local, &servers.cloud] {
            let proxy = crate::harness::fault_proxy::FaultProxy::start(store.address).await;
            let answer = reqwest::get(proxy.endpoint()).await.unwrap();
            assert_eq!(answer.status(), 403);
            assert!(answer.text().await.unwrap().contains("AccessDenied"));
        }
    }
}
