//! One isolated installation of Nightferry: a separate database, separate buckets behind fault proxies, the real
//! services, and workers on demand.

use std::fmt::Display;
use std::net::SocketAddr;

use nightferry_core::auth::account::{self, NewAccount};
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::clock::Clock;
use nightferry_core::config::{Config, LoadOptions};
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{RunTrigger, UserRole};
use nightferry_core::db::replicas::{self, Replica};
use nightferry_core::db::run_failures::{self, RunFailure};
use nightferry_core::db::runs::{NewRun, Run, RunScope};
use nightferry_core::file::details::FileView;
use nightferry_core::file::list::FolderRef;
use nightferry_core::file::upload::{self, OnConflict, UploadRequest};
use nightferry_core::ids::{RunId, UserId};
use nightferry_core::object::identity;
use nightferry_core::object::write::Incoming;
use nightferry_core::services::Services;
use nightferry_core::store::{Canary, StoreRole};
use nightferry_core::stores::Stores;
use nightferry_core::tiering::{Engine, policy, run};
use nightferry_core::{db, store};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::catalogue::{self, Catalogue};
use super::eventually;
use super::fault_proxy::{Fault, FaultProxy};
use super::memory_s3::MemoryS3;
use super::servers::{OwnPostgres, servers};

/// An isolated installation of Nightferry.
pub struct World {
    /// The context of the domain.
    pub context: Context,
    /// All services.
    pub services: Services,
    /// The proxy between Nightferry and the local store.
    pub local: FaultProxy,
    /// The proxy between Nightferry and the cloud store.
    pub cloud: FaultProxy,
    /// The same buckets without a proxy, with valid credentials: the actual contents of the stores.
    pub direct: Stores,
    /// The database server, if the test has a separate one.
    pub postgres: Option<OwnPostgres>,
    /// The stores, if they are in this process: the local store and the cloud store.
    pub memory: Option<[MemoryS3; 2]>,
    /// The proxies between Nightferry and the other local stores, by store name.
    pub other_locals: Vec<(&'static str, FaultProxy)>,
    /// The addresses of the stores behind the proxies.
    at: Vec<(&'static str, SocketAddr)>,
    settings: Vec<(String, String)>,
    /// Number of the world's own settings, which precede those of the test.
    plain: usize,
    /// What the local and the cloud stores verify.
    canaries: [Canary; 2],
}

/// With `NIGHTFERRY_TEST_LOG=info` (or any filter of `tracing`), events are logged.
fn log_if_asked() {
    if let Ok(filter) = std::env::var("NIGHTFERRY_TEST_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        // Only the first world of a process initialises it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

/// The settings of a process that uses only the database.
fn database_settings(url: &str) -> Config {
    load(vec![
        ("database.url".to_owned(), url.to_owned()),
        ("database.statement_timeout".to_owned(), "120s".to_owned()),
        ("auth.secret_key".to_owned(), "0123456789abcdef0123456789abcdef".to_owned()),
        ("auth.bcrypt_cost".to_owned(), "4".to_owned()),
        ("stores.minio.access_key".to_owned(), "unused".to_owned()),
        ("stores.minio.secret_key".to_owned(), "unused".to_owned()),
        ("stores.s3.bucket".to_owned(), "unused".to_owned()),
        ("stores.s3.access_key".to_owned(), "unused".to_owned()),
        ("stores.s3.secret_key".to_owned(), "unused".to_owned()),
    ])
}

/// Applies the migrations to the template of most tests.
async fn migrate(url: &str) {
    let db = db::Database::open(&database_settings(url).database);
    db::migrate::apply(&db).await.unwrap();
    super::invariants::observe(&db).await;
}

/// Fills the template of tests that need many files.
async fn fill(url: &str, files: Catalogue) {
    migrate(url).await;
    let services = Services::new(database_settings(url), Clock::system()).unwrap();
    let owner = create_user(&services).await;
    files.insert(&services.context.db, owner, 1..=catalogue::FILES).await;
}

async fn create_user(services: &Services) -> UserId {
    let new = NewAccount {
        email: format!("{}@example.org", uuid::Uuid::new_v4().simple()),
        password: "correct horse battery".to_owned().into(),
        name: None,
        role: UserRole::User,
    };
    account::create(&services.accounts, new, None, &Origin::default()).await.unwrap().id
}

fn load(overrides: Vec<(String, String)>) -> Config {
    let options = LoadOptions { overrides, ..LoadOptions::default() };
    Config::load(options).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The stores of these settings without a proxy: with the credentials of the world, and all keys of encrypted objects.
fn unproxied(settings: &[(String, String)], plain: usize, at: &[(&str, SocketAddr)]) -> Stores {
    let mut unproxied = settings[..plain].to_vec();
    unproxied.extend(settings[plain..].iter().filter(|(key, _)| key.contains(".encryption")).cloned());
    unproxied.extend(at.iter().map(|(name, at)| (format!("stores.{name}.endpoint"), format!("http://{at}"))));
    Stores::open(&load(unproxied)).unwrap()
}

/// Writes and records the identities of the stores as the first start of a process does, but without requests through
/// the proxies, which tests count.
async fn settle_identities(context: &Context, direct: &Stores) {
    let unproxied = Context { stores: direct.clone(), ..context.clone() };
    for store in direct.all() {
        let identity = identity::check(&unproxied, store).await;
        let name = store.name().as_str();
        let used = context.stores.get(name).map(|used| &used.settings().bucket);
        if used == Some(&store.settings().bucket) {
            context.stores.health().identities().saw(name, &identity);
        }
    }
}

/// What the local and the cloud servers of this test run verify, found out once and without requests through the proxies.
/// The server in this process verifies everything that the tests use.
async fn canaries(direct: &Stores, in_memory: bool) -> [Canary; 2] {
    static LOCAL: OnceCell<Canary> = OnceCell::const_new();
    static CLOUD: OnceCell<Canary> = OnceCell::const_new();
    if in_memory {
        return [Canary::strict(), Canary::strict()];
    }
    let (local, cloud) = (direct.local().unwrap(), direct.cloud().unwrap());
    let local = LOCAL.get_or_init(|| local.send_canaries()).await.clone();
    [local, CLOUD.get_or_init(|| cloud.send_canaries()).await.clone()]
}

/// Differences from the default settings.
#[derive(Default)]
pub struct WorldBuilder {
    overrides: Vec<(String, String)>,
    own_postgres: bool,
    more_clouds: Vec<&'static str>,
    more_locals: Vec<&'static str>,
    in_memory: bool,
    catalogue: Option<Catalogue>,
}

impl WorldBuilder {
    /// Sets one key of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.overrides.push((key.to_owned(), value.to_string()));
        self
    }

    /// Gives the world a separate database server, which the test can stop.
    #[must_use]
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self
    }

    /// Adds a cloud store with a separate bucket and without a proxy.
    #[must_use]
    pub fn another_cloud(mut self, name: &'static str) -> Self {
        self.more_clouds.push(name);
        self
    }

    /// Adds a local store with a separate bucket and a proxy.
    #[must_use]
    pub fn another_local(mut self, name: &'static str) -> Self {
        self.more_locals.push(name);
        self
    }

    /// Keeps both stores in this process, see [`MemoryS3`]: for many short tests.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Begins with many files without content, of one account.
    #[must_use]
    pub fn with_files(mut self, files: Catalogue) -> Self {
        self.catalogue = Some(files);
        self.set("database.statement_timeout", "120s")
    }

    /// Makes the world.
    pub async fn build(self) -> World {
        log_if_asked();
        let servers = servers().await;
        let (database_url, postgres) = if self.own_postgres {
            let postgres = OwnPostgres::start().await;
            migrate(&postgres.url()).await;
            (postgres.url(), Some(postgres))
        } else if let Some(files) = self.catalogue {
            let fill = async |url: &str| fill(url, files).await;
            (servers.postgres.fresh_database(files.template(), fill).await.url, None)
        } else {
            (servers.postgres.fresh_database("migrated", migrate).await.url, None)
        };
        let memory =
            if self.in_memory { Some([MemoryS3::start().await, MemoryS3::start().await]) } else { None };
        let [at_local, at_cloud] = match &memory {
            Some([local, cloud]) => [local.address(), cloud.address()],
            None => [servers.local.address, servers.cloud.address],
        };
        let local = FaultProxy::start(at_local).await;
        let cloud = FaultProxy::start(at_cloud).await;
        let mut settings: Vec<(String, String)> = [
            ("database.url", database_url),
            ("auth.secret_key", "0123456789abcdef0123456789abcdef".to_owned()),
            ("auth.bcrypt_cost", "4".to_owned()),
            ("server.port", "0".to_owned()),
            ("stores.minio.endpoint", local.endpoint()),
            ("stores.minio.bucket", servers.local.fresh_bucket_name()),
            ("stores.minio.access_key", servers.local.access_key.to_owned()),
            ("stores.minio.secret_key", servers.local.secret_key.to_owned()),
            ("stores.s3.endpoint", cloud.endpoint()),
            ("stores.s3.bucket", servers.cloud.fresh_bucket_name()),
            ("stores.s3.access_key", servers.cloud.access_key.to_owned()),
            ("stores.s3.secret_key", servers.cloud.secret_key.to_owned()),
            ("tiering.backoff_initial", "50ms".to_owned()),
            ("tiering.backoff_cap", "1s".to_owned()),
            // Long, so that no worker on a busy machine loses its leases; see `expire_leases`.
            ("tiering.lease", "20s".to_owned()),
            ("tiering.heartbeat", "500ms".to_owned()),
            ("tiering.evict_grace", "0s".to_owned()),
            // Tests count requests and objects; snapshots and store checks only run if a test enables them.
            ("catalog.after_runs", "false".to_owned()),
            ("health.interval", "1h".to_owned()),
            // Sent by the harness instead: see `canaries`.
            ("health.canary_interval", "never".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        for name in self.more_clouds {
            let of_store = [
                ("role", "cloud".to_owned()),
                ("endpoint", servers.cloud.endpoint()),
                ("bucket", servers.cloud.fresh_bucket_name()),
                ("access_key", servers.cloud.access_key.to_owned()),
                ("secret_key", servers.cloud.secret_key.to_owned()),
            ];
            settings.extend(of_store.map(|(key, value)| (format!("stores.{name}.{key}"), value)));
            settings.push(("tiering.cloud_store".to_owned(), "s3".to_owned()));
        }
        let mut at = vec![("minio", at_local), ("s3", at_cloud)];
        let mut other_locals = Vec::new();
        for name in self.more_locals {
            assert!(!self.in_memory, "an in-process store has one bucket with any name");
            let proxy = FaultProxy::start(at_local).await;
            let of_store = [
                ("role", "local".to_owned()),
                ("endpoint", proxy.endpoint()),
                ("bucket", servers.local.fresh_bucket_name()),
                ("access_key", servers.local.access_key.to_owned()),
                ("secret_key", servers.local.secret_key.to_owned()),
            ];
            settings.extend(of_store.map(|(key, value)| (format!("stores.{name}.{key}"), value)));
            settings.push(("tiering.local_store".to_owned(), "minio".to_owned()));
            at.push((name, at_local));
            other_locals.push((name, proxy));
        }
        let plain = settings.len();
        settings.extend(self.overrides);
        let direct = unproxied(&settings, plain, &at);
        for store in direct.all() {
            store.ensure_bucket().await.unwrap();
        }
        let services = Services::new(load(settings.clone()), Clock::system()).unwrap();
        let context = services.context.clone();
        settle_identities(&context, &direct).await;
        let canaries = canaries(&direct, memory.is_some()).await;
        let world = World {
            context,
            services,
            local,
            cloud,
            direct,
            postgres,
            memory,
            other_locals,
            at,
            settings,
            plain,
            canaries,
        };
        world.with_canaries(&world.context);
        world
    }
}

impl World {
    /// A world with default settings.
    pub async fn new() -> Self {
        WorldBuilder::default().build().await
    }

    /// A world with other settings.
    pub fn with(key: &str, value: impl Display) -> WorldBuilder {
        WorldBuilder::default().set(key, value)
    }

    /// Replaces the database with a new, empty one, and uses `settings` from then on. Returns the old context, which
    /// has no other users.
    pub async fn lose_database(&mut self, settings: &[(&str, &str)]) -> Context {
        let fresh = servers().await.postgres.fresh_database("migrated", migrate).await;
        self.settings.push(("database.url".to_owned(), fresh.url));
        self.settings.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let before = self.context.clone();
        self.renew();
        before
    }

    /// Changes settings, like a restart of all processes with another configuration.
    pub fn reconfigure(&mut self, more: &[(&str, &str)]) {
        self.settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.direct = unproxied(&self.settings, self.plain, &self.at);
        self.renew();
    }

    /// Configures the cloud store as the bucket of the local store, behind a proxy of its own: for the settings, two
    /// servers.
    pub async fn configure_one_bucket(&mut self) {
        let server = &servers().await.local;
        let proxy = FaultProxy::start(server.address).await;
        let bucket = self.context.stores.get("minio").unwrap().settings().bucket.clone();
        self.reconfigure(&[
            ("stores.s3.endpoint", &proxy.endpoint()),
            ("stores.s3.bucket", &bucket),
            ("stores.s3.access_key", server.access_key),
            ("stores.s3.secret_key", server.secret_key),
        ]);
        self.cloud = proxy;
    }

    /// Restarts with the current settings.
    fn renew(&mut self) {
        self.services = Services::new(load(self.settings.clone()), self.context.clock.clone()).unwrap();
        self.context = self.services.context.clone();
        self.with_canaries(&self.context);
    }

    /// As if the process with this context had sent canaries to its stores.
    fn with_canaries(&self, context: &Context) {
        let [local, cloud] = &self.canaries;
        for store in context.stores.all() {
            let canary = if store.role() == StoreRole::Local { local } else { cloud };
            store.use_canary(canary.clone());
        }
    }

    /// A context with these settings.
    fn open(&self, settings: Vec<(String, String)>, clock: Clock) -> Context {
        let context = Context::new(load(settings), clock).unwrap();
        self.with_canaries(&context);
        context
    }

    /// Expires all leases now, as if their holders had died long ago.
    pub async fn expire_leases(&self) {
        let expire = "DO $$ DECLARE leased text; BEGIN \
             FOR leased IN SELECT table_name FROM information_schema.columns \
                 WHERE table_schema = 'public' AND column_name = 'lease_until' \
             LOOP EXECUTE format( \
                 'UPDATE %I SET lease_until = now() - interval ''1s'' WHERE lease_until IS NOT NULL', leased); \
             END LOOP; END $$";
        super::database::execute(&self.context.db, expire).await.unwrap();
    }

    /// The settings of this world, for processes that share it.
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// The proxy between Nightferry and this other local store.
    pub fn proxy(&self, name: &str) -> &FaultProxy {
        let found = self.other_locals.iter().find(|(other, _)| *other == name);
        &found.unwrap_or_else(|| panic!("there is no other local store {name}")).1
    }

    /// As if a store had rejected a write of this process because it is full: it is paused for two minutes.
    pub async fn make_full(&self, name: &str) {
        let proxy = match name {
            "minio" => &self.local,
            "s3" => &self.cloud,
            other => self.proxy(other),
        };
        let full = Fault::status(507, "XMinioStorageFull").retry_after(120).on(reqwest::Method::PUT);
        let full = proxy.add(full);
        let key = store::ObjectKey::new(uuid::Uuid::nil(), uuid::Uuid::now_v7(), "x");
        let body = store::Body::from(bytes::Bytes::from_static(b"x"));
        let used = self.context.stores.get(name).unwrap();
        let error = used.put(&key, body, &store::PutOptions::default()).await.unwrap_err();
        self.context.stores.health().failed(&error, self.context.clock.now());
        full.remove();
    }

    /// The account whose files [`WorldBuilder::with_files`] made.
    pub async fn owner_of_files(&self) -> UserId {
        let found = super::database::texts(&self.context.db, "SELECT id FROM users").await;
        UserId(found[0].parse().unwrap())
    }

    /// A new account.
    pub async fn user(&self) -> UserId {
        create_user(&self.services).await
    }

    /// Uploads through the domain, without HTTP.
    pub async fn upload(&self, owner: UserId, name: &str, mut body: impl Incoming) -> FileView {
        upload::receive(&self.services.files, request(owner, name), &mut body).await.unwrap()
    }

    /// The domain with the default settings of the world: with valid credentials, for example.
    pub fn plain_context(&self) -> Context {
        self.open(self.settings[..self.plain].to_vec(), self.context.clock.clone())
    }

    /// The same domain with another configuration: after a change of the rules, for example.
    pub fn context_with(&self, more: &[(&str, &str)]) -> Context {
        let mut settings = self.settings.clone();
        settings.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.open(settings, self.context.clock.clone())
    }

    /// The same domain as a process with another clock: on a machine whose clock is wrong, for example.
    pub fn context_with_clock(&self, clock: Clock) -> Context {
        self.open(self.settings.clone(), clock)
    }

    /// Starts a worker in this process.
    pub fn start_worker(&self) -> WorkerHandle {
        WorkerHandle::of(self.services.engine.clone())
    }

    /// Requests a run.
    pub async fn request_run(&self, scope: RunScope) -> Run {
        let new = NewRun { trigger: RunTrigger::Api, requested_by: None, tick: None, scope };
        run::request(&self.context, new, &Origin::default()).await.unwrap()
    }

    /// Waits until a run has ended.
    pub async fn ended(&self, id: nightferry_core::ids::RunId) -> Run {
        eventually("the run ends", || async {
            let run = run::find(&self.context, id).await.unwrap().run;
            (!run.status.is_active()).then_some(run)
        })
        .await
    }

    /// Requests a run that retries failed copies, and waits until a worker has ended it.
    pub async fn retry(&self) -> Run {
        let run = self.request_run(RunScope { retry_failed: true, ..RunScope::default() }).await;
        self.ended(run.id).await
    }

    /// Requests a run and waits until a worker has ended it.
    pub async fn sync(&self) -> Run {
        let run = self.request_run(RunScope::default()).await;
        self.ended(run.id).await
    }

    /// The key of the current version of a file.
    pub async fn key(&self, file: &FileView) -> store::ObjectKey {
        let mut conn = self.context.db.conn().await.unwrap();
        let (_, version) =
            db::files::version_object(&mut conn, file.row.id, None, None).await.unwrap().unwrap();
        store::ObjectKey::parse(&version.key).unwrap()
    }

    /// The actual content in a store under the key of the current version of a file.
    pub async fn stored(&self, store: &str, file: &FileView) -> Option<Sha256> {
        let key = self.key(file).await;
        read(self.direct.get(store).unwrap(), &key).await
    }

    /// The row of the replica of a file's object in a store.
    pub async fn replica(&self, store: &str, file: &FileView) -> Option<Replica> {
        let mut conn = self.context.db.conn().await.unwrap();
        let rows = replicas::of_objects(&mut conn, &[file.object_id]).await.unwrap();
        rows.into_iter().find(|row| row.store == store)
    }

    /// The failures of a run.
    pub async fn failures(&self, run: RunId) -> Vec<RunFailure> {
        let mut conn = self.context.db.conn().await.unwrap();
        let patience = policy::patience(&self.context.config);
        run_failures::page(&mut conn, run, None, 1000, patience).await.unwrap()
    }
}

/// The hash of an object; `None` if the store does not contain the key.
pub(super) async fn read(store: &store::Store, key: &store::ObjectKey) -> Option<Sha256> {
    use futures_util::StreamExt;
    let mut object = match store.get(key, None).await {
        Err(error) if error.verdict() == store::Verdict::SourceMissing => return None,
        got => got.unwrap(),
    };
    let mut hasher = Sha256Hasher::new();
    while let Some(chunk) = object.body.next().await {
        hasher.update(&chunk.unwrap());
    }
    Some(hasher.finish())
}

/// An upload request with default values.
pub fn request(owner: UserId, name: &str) -> UploadRequest {
    UploadRequest {
        owner,
        folder: FolderRef::Root,
        filename: name.to_owned(),
        content_type: None,
        on_conflict: OnConflict::Version,
        sha256: None,
    }
}

/// A worker in this process.
pub struct WorkerHandle {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl WorkerHandle {
    /// Starts a worker as if it were in a separate process.
    pub fn start(context: Context) -> Self {
        Self::of(Engine::new(context))
    }

    fn of(engine: Engine) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(nightferry_worker::run(engine, shutdown.clone()));
        Self { shutdown, task }
    }

    /// Requests its shutdown, and does not wait.
    pub fn drain(&self) {
        self.shutdown.cancel();
    }

    /// Shuts it down.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}
