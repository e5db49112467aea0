//! The servers that `nightferry up` needs in addition to Nightferry itself, started together: Postgres and two S3
//! servers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account::Account;
use crate::data_dir::{DataDir, Remembered, RememberedStore};
use crate::error::{UpError, io_error};
use crate::fetch::{PartsCache, SEAWEEDFS_WHEEL, WHEEL_MAJOR};
use crate::find::{PostgresBin, find_minio, find_seaweedfs};
use crate::leftovers::PidFile;
use crate::ports::{free_port, port_is_free, require_free};
use crate::postgres::{self, PostgresSpec, Sync, init_postgres, start_postgres};
use crate::report::{Notice, Reporter};
use crate::s3::{S3_ACCESS_KEY, S3_SECRET_KEY, S3Kind, S3Spec, start_s3};
use crate::seaweedfs::SeaweedPorts;
use crate::server::{Server, Stopped};

const GRACE: Duration = Duration::from_secs(20);
const CONNECTIONS: u32 = 100;
const LOCAL_BUCKET: &str = "local-files";
const CLOUD_BUCKET: &str = "cloud-files";

/// Which S3 server to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum S3Software {
    /// The one that created the data; otherwise `SeaweedFS`, unless only `MinIO` is installed.
    #[default]
    Auto,
    /// `SeaweedFS`.
    Seaweedfs,
    /// `MinIO`.
    Minio,
}

/// The options of a user.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Port of the API; only checked for conflicts.
    pub port: u16,
    /// Port of the local S3 server.
    pub local_s3_port: u16,
    /// Port of the stand-in for the cloud store.
    pub cloud_s3_port: u16,
    /// Which S3 server to use.
    pub s3_server: S3Software,
}

/// A running S3 server and how to reach it. Its bucket does not exist yet.
#[derive(Debug)]
pub struct S3Server {
    /// The process.
    pub server: Server,
    /// Software.
    pub kind: S3Kind,
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    /// The bucket for Nightferry's objects.
    pub bucket: String,
}

/// The running servers.
#[derive(Debug)]
pub struct Parts {
    /// The database server.
    pub postgres: Server,
    /// The URL of Nightferry's database; contains the password.
    pub database_url: String,
    /// The local store.
    pub local: S3Server,
    /// The stand-in for the cloud store.
    pub cloud: S3Server,
    _lock: File,
}

impl Parts {
    /// The servers in the order in which they are stopped.
    pub fn servers_mut(&mut self) -> [&mut Server; 3] {
        [&mut self.local.server, &mut self.cloud.server, &mut self.postgres]
    }

    /// Stops the S3 servers together, then Postgres. Servers that are still running when `hurry` completes are killed.
    pub async fn stop(
        mut self,
        hurry: impl Future<Output = ()>,
        reporter: &dyn Reporter,
    ) -> Result<(), UpError> {
        tokio::select! {
            stopped = stop_all(&mut self, GRACE, reporter) => return stopped,
            () = hurry => reporter.tell(Notice::Warning("Second request: killing the remaining servers")),
        }
        stop_all(&mut self, Duration::ZERO, reporter).await
    }
}

async fn stop_all(parts: &mut Parts, grace: Duration, reporter: &dyn Reporter) -> Result<(), UpError> {
    let [local, cloud, postgres] = parts.servers_mut();
    let stores = tokio::join!(stop_one(local, grace, reporter), stop_one(cloud, grace, reporter));
    let database = stop_one(postgres, grace, reporter).await;
    stores.0.and(stores.1).and(database)
}

async fn stop_one(server: &mut Server, grace: Duration, reporter: &dyn Reporter) -> Result<(), UpError> {
    if server.stop(grace).await? == Stopped::Killed {
        reporter.tell(Notice::Warning(&format!("{} did not stop in time and was killed", server.name())));
    }
    Ok(())
}

/// Finds or downloads the servers, starts them on the data folder and waits until all are ready.
pub async fn start_parts(options: &UpOptions, reporter: &dyn Reporter) -> Result<Parts, UpError> {
    let data = DataDir::open(&options.data_dir)?;
    let lock = data.lock()?;
    for name in ["postgres", "local-s3", "cloud-s3"] {
        PidFile::stop_leftover(&data.pid_file(name)).await?;
    }
    require_ports(options)?;

    let mut facts = data.recall()?;
    let cache = PartsCache::locate(data.root());
    let account = Account::for_postgres();
    let home = postgres_home(&data, &mut facts, account, reporter)?;
    let bin = postgres_bin(&home, account, &cache, reporter).await?;
    let (local_software, cloud_software) = (
        store_software(&data, "local", options.s3_server, &facts.local, &cache, reporter).await?,
        store_software(&data, "cloud", options.s3_server, &facts.cloud, &cache, reporter).await?,
    );
    let chosen = [options.port, options.local_s3_port, options.cloud_s3_port];
    let ports = choose_ports(&mut facts, &chosen)?;
    facts.local.kind = Some(local_software.0);
    facts.cloud.kind = Some(cloud_software.0);
    data.remember(&facts)?;

    let password = data.secret("postgres.password")?;
    let spec = PostgresSpec {
        bin: &bin,
        home: &home,
        account,
        port: ports.postgres,
        password: &password,
        sync: Sync::Durable,
        connections: CONNECTIONS,
        log: data.log("postgres"),
        pid_file: data.pid_file("postgres"),
    };
    init_postgres(&spec)?;
    let (postgres, local, cloud) = tokio::try_join!(
        start_postgres(&spec),
        start_store(&data, "local", local_software, options.local_s3_port, ports.local, LOCAL_BUCKET),
        start_store(&data, "cloud", cloud_software, options.cloud_s3_port, ports.cloud, CLOUD_BUCKET),
    )?;
    Ok(Parts { postgres, database_url: spec.url(postgres::NAME), local, cloud, _lock: lock })
}

fn require_ports(options: &UpOptions) -> Result<(), UpError> {
    let wanted = [
        (options.port, "API", "--port"),
        (options.local_s3_port, "local S3 server", "--local-s3-port"),
        (options.cloud_s3_port, "cloud S3 server", "--cloud-s3-port"),
    ];
    for (index, (port, purpose, flag)) in wanted.into_iter().enumerate() {
        if let Some((_, _, first)) = wanted.iter().take(index).find(|(other, ..)| *other == port) {
            let text = format!("{first} and {flag} are both {port}: choose different ports");
            return Err(UpError::Other(text));
        }
        require_free(port, purpose, flag)?;
    }
    Ok(())
}

struct Ports {
    postgres: u16,
    local: SeaweedPorts,
    cloud: SeaweedPorts,
}

/// The stored ports if they are still free, otherwise new ones; all different, and different from those chosen by the
/// user.
fn choose_ports(facts: &mut Remembered, chosen: &[u16]) -> Result<Ports, UpError> {
    let mut taken = chosen.to_vec();
    let mut store = |remembered: &mut Option<SeaweedPorts>| {
        let mut ports = remembered.map_or_else(SeaweedPorts::free, SeaweedPorts::still_free_or_new)?;
        while ports.all().iter().any(|port| taken.contains(port)) {
            ports = SeaweedPorts::free()?;
        }
        taken.extend(ports.all());
        *remembered = Some(ports);
        Ok::<_, UpError>(ports)
    };
    let local = store(&mut facts.local.seaweedfs_ports)?;
    let cloud = store(&mut facts.cloud.seaweedfs_ports)?;
    let mut postgres = facts.postgres_port.filter(|port| port_is_free(*port)).map_or_else(free_port, Ok)?;
    while taken.contains(&postgres) {
        postgres = free_port()?;
    }
    facts.postgres_port = Some(postgres);
    Ok(Ports { postgres, local, cloud })
}

/// The folder for the database: in the data folder, or elsewhere if Postgres cannot access a data folder of root.
fn postgres_home(
    data: &DataDir,
    facts: &mut Remembered,
    account: Option<Account>,
    reporter: &dyn Reporter,
) -> Result<PathBuf, UpError> {
    let inside = data.root().join("postgres");
    let barrier = account.and_then(|account| account.barred_from(data.root()));
    let home = match (facts.postgres_dir.clone(), barrier) {
        (Some(elsewhere), _) => elsewhere,
        (None, Some(barrier)) if !inside.join("data").exists() => {
            let elsewhere = PathBuf::from(format!("/var/lib/nightferry/{:016x}", rand::random::<u64>()));
            reporter.tell(Notice::Warning(&format!(
                "Postgres does not run as root and its account may not enter {}: the database is stored in {}",
                barrier.display(),
                elsewhere.display()
            )));
            facts.postgres_dir = Some(elsewhere.clone());
            elsewhere
        }
        (None, _) => inside,
    };
    std::fs::create_dir_all(&home).map_err(io_error("create", &home))?;
    if let Some(account) = account {
        account.own(&home)?;
    }
    Ok(home)
}

/// A Postgres that can read the database in `home`, if there is one.
async fn postgres_bin(
    home: &Path,
    account: Option<Account>,
    cache: &PartsCache,
    reporter: &dyn Reporter,
) -> Result<PostgresBin, UpError> {
    let required = postgres::recorded_major(home);
    match (PostgresBin::find_or_fetch(required, account, cache, reporter).await?, required) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(major)) if found.major == major => Ok(found),
        (_, required) => {
            let (home, major) = (home.display(), required.unwrap_or(WHEEL_MAJOR));
            Err(UpError::Other(format!(
                "the database in {home} was created by Postgres {major}, and no Postgres {major} was found: install it, \
                 set NIGHTFERRY_POSTGRES_BIN to its bin folder, or use another --data-dir"
            )))
        }
    }
}

/// Selects the software of a store and finds its program.
async fn store_software(
    data: &DataDir,
    store: &'static str,
    wanted: S3Software,
    facts: &RememberedStore,
    cache: &PartsCache,
    reporter: &dyn Reporter,
) -> Result<(S3Kind, PathBuf), UpError> {
    let kind = match (wanted, facts.kind) {
        (S3Software::Auto, Some(recorded)) => recorded,
        (S3Software::Auto, None) => {
            let weed = find_seaweedfs()?.is_some() || cache.get(&SEAWEEDFS_WHEEL, None).is_some();
            if !weed && find_minio()?.is_some() { S3Kind::Minio } else { S3Kind::Seaweedfs }
        }
        (S3Software::Seaweedfs, _) => S3Kind::Seaweedfs,
        (S3Software::Minio, _) => S3Kind::Minio,
    };
    if let Some(recorded) = facts.kind.filter(|recorded| *recorded != kind) {
        let (path, recorded, wanted) = (data.root().display(), recorded.as_str(), kind.as_str());
        return Err(UpError::Conflict(format!(
            "the {store} store in {path} was created by {recorded} and {wanted} cannot read it: use --s3-server \
             {recorded} or another --data-dir"
        )));
    }
    Ok((kind, kind.program(cache, reporter).await?))
}

/// Starts the store with this name, such as `local`, on a port chosen by the user.
async fn start_store(
    data: &DataDir,
    store: &'static str,
    (kind, program): (S3Kind, PathBuf),
    s3_port: u16,
    ports: SeaweedPorts,
    bucket: &str,
) -> Result<S3Server, UpError> {
    let file = format!("{store}-s3");
    let server = start_s3(S3Spec {
        name: &format!("{file} ({})", kind.as_str()),
        kind,
        program: &program,
        data: &data.folder(store)?,
        s3_port,
        ports,
        log: data.log(&file),
        pid_file: data.pid_file(&file),
        identities: data.root().join("run").join(format!("{file}.json")),
    })
    .await?;
    Ok(S3Server {
        server,
        kind,
        endpoint: format!("http://127.0.0.1:{s3_port}"),
        access_key: S3_ACCESS_KEY.to_owned(),
        secret_key: S3_SECRET_KEY.to_owned(),
        bucket: bucket.to_owned(),
    })
}
