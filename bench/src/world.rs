//! One Postgres and two S3 servers on fresh folders, as started by `nightferry up`, for one part of the benchmark.
//! Everything is stopped and deleted when the part has ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use nightferry::signals::StopRequests;
use nightferry_core::auth::Accounts;
use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::clock::Clock;
use nightferry_core::config::{Config, LoadOptions};
use nightferry_core::context::Context;
use nightferry_core::db;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::UserRole;
use nightferry_core::ids::UserId;
use nightferry_core::object::write::{BodyError, Incoming};
use nightferry_devservers::{
    Parts, Quiet as Silent, S3_ACCESS_KEY, S3_SECRET_KEY, S3Server, S3Software, StderrLines, UpOptions,
    free_port, scratch_folder, start_parts,
};
use tempfile::TempDir;

/// Email of the account that owns every file.
pub(crate) const EMAIL: &str = "bench@example.org";
/// The password.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The servers of one part of the benchmark.
pub(crate) struct World {
    parts: Parts,
    folder: TempDir,
    /// Settings of the user that override the defaults.
    set: Vec<(String, String)>,
}

impl World {
    /// Starts the servers.
    pub(crate) async fn start(s3_server: S3Software, set: &[(String, String)]) -> Result<Self> {
        let folder = scratch_folder("nightferry-bench-")?;
        std::fs::create_dir(folder.path().join("files"))?;
        // Specified or found as for `make run`; the folder for downloaded servers is that of the checkout.
        let options = UpOptions {
            data_dir: folder.path().join("data"),
            port: free_port()?,
            local_s3_port: free_port()?,
            cloud_s3_port: free_port()?,
            s3_server,
        };
        let parts = start_parts(&options, &StderrLines).await?;
        Ok(Self { parts, folder, set: set.to_vec() })
    }

    /// Stops the servers and deletes their data.
    pub(crate) async fn stop(self, requests: &mut StopRequests) -> Result<()> {
        self.parts.stop(requests.next(), &Silent).await?;
        Ok(self.folder.close()?)
    }

    /// The server of the local store.
    pub(crate) fn local(&self) -> &S3Server {
        &self.parts.local
    }

    /// The stand-in for the cloud store.
    pub(crate) fn cloud(&self) -> &S3Server {
        &self.parts.cloud
    }

    /// Process ids of the two S3 servers.
    pub(crate) fn store_pids(&self) -> [u32; 2] {
        [self.parts.local.server.pid(), self.parts.cloud.server.pid()]
    }

    /// Process id of Postgres.
    pub(crate) fn postgres_pid(&self) -> u32 {
        self.parts.postgres.pid()
    }

    /// A folder for files.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The working directory of processes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of the database that always exists.
    pub(crate) fn maintenance_url(&self) -> &str {
        &self.parts.database_url
    }

    /// The URL of a database.
    pub(crate) fn database_url(&self, name: &str) -> String {
        match self.parts.database_url.rsplit_once('/') {
            Some((server, _)) => format!("{server}/{name}"),
            None => self.parts.database_url.clone(),
        }
    }

    /// The settings of an installation: its database, and its cloud bucket.
    pub(crate) fn settings(&self, database: &str, cloud_bucket: &str) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("database.url", self.database_url(database)),
            ("auth.secret_key", "0123456789abcdef0123456789abcdef".to_owned()),
            ("auth.access_token_ttl", "1d".to_owned()),
            ("stores.minio.endpoint", self.parts.local.endpoint.clone()),
            ("stores.minio.bucket", self.parts.local.bucket.clone()),
            ("stores.minio.access_key", S3_ACCESS_KEY.to_owned()),
            ("stores.minio.secret_key", S3_SECRET_KEY.to_owned()),
            ("stores.s3.endpoint", self.parts.cloud.endpoint.clone()),
            ("stores.s3.bucket", cloud_bucket.to_owned()),
            ("stores.s3.access_key", S3_ACCESS_KEY.to_owned()),
            ("stores.s3.secret_key", S3_SECRET_KEY.to_owned()),
            // A midnight during the benchmark must not start a run.
            ("tiering.schedule", "0 0 0 29 2 *".to_owned()),
            // The objects in the cloud bucket are counted.
            ("catalog.after_runs", "false".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        settings.extend(self.set.iter().cloned());
        settings
    }

    /// Creates a database with the schema and one account, both buckets, and the services in this process.
    pub(crate) async fn install(&self, database: &str, cloud_bucket: &str) -> Result<(Context, UserId)> {
        self.install_with(database, self.settings(database, cloud_bucket)).await
    }

    /// Like [`Self::install`], with other settings.
    pub(crate) async fn install_with(
        &self,
        database: &str,
        settings: Vec<(String, String)>,
    ) -> Result<(Context, UserId)> {
        crate::sql::run(self.maintenance_url(), &[&format!("CREATE DATABASE {database}")]).await?;
        let context = open(settings)?;
        db::migrate::apply(&context.db).await?;
        for store in context.stores.all() {
            store.ensure_bucket().await?;
        }
        let new = NewAccount {
            email: EMAIL.to_owned(),
            password: PASSWORD.to_owned().into(),
            name: None,
            role: UserRole::Admin,
        };
        let user = account::create(&Accounts::new(context.clone())?, new, None, &Origin::default()).await?;
        Ok((context, user.id))
    }
}

/// The services of an installation, in this process.
pub(crate) fn open(settings: Vec<(String, String)>) -> Result<Context> {
    let options = LoadOptions { overrides: settings, ..LoadOptions::default() };
    let config = Config::load(options).map_err(|errors| anyhow!("{errors}"))?;
    Context::new(config, Clock::system()).context("the services cannot start")
}

/// Incompressible bytes, generated on demand.
pub(crate) struct Random {
    state: u64,
    left: u64,
}

impl Random {
    /// `length` bytes, determined by `seed`.
    pub(crate) fn new(seed: u64, length: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, left: length }
    }

    /// The next chunk; `None` at the end.
    pub(crate) fn chunk(&mut self) -> Option<Bytes> {
        const CHUNK: usize = 64 * 1024;
        if self.left == 0 {
            return None;
        }
        let length = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            // xorshift64*
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            bytes.extend_from_slice(&self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        bytes.truncate(length);
        self.left -= u64::try_from(length).unwrap_or(self.left);
        Some(bytes.into())
    }

    /// Writes all bytes to a new file.
    pub(crate) fn write_to(mut self, path: &Path) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        while let Some(chunk) = self.chunk() {
            file.write_all(&chunk)?;
        }
        Ok(file.flush()?)
    }
}

impl Incoming for Random {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        self.chunk().map(Ok)
    }

    fn at_least(&self) -> u64 {
        self.left
    }

    fn at_most(&self) -> Option<u64> {
        Some(self.left)
    }
}

/// Polls until there is a result; fails with `what` after `within`.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, asking)
        .await
        .map_err(|_| anyhow!("{what}: not within {} s", within.as_secs()))?
}
