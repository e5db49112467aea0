//! A small in-process S3 server, behind real HTTP, for thousands of short tests. It keeps whole objects in memory,
//! verifies and stores the SHA-256 sent with them, and reports its content correctly. Supports what small files need:
//! put, get with ranges, head, delete, list, multipart uploads. It verifies no signatures and has one bucket with any
//! name. Faults are injected by the proxy, except those that only a store itself can have.

mod http;
mod parts;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use chrono::{DateTime, Duration, Utc};
use nightferry_core::checksum::{Crc64Nvme, Sha256};
use nightferry_core::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct MemoryS3 {
    address: SocketAddr,
    bucket: Arc<Bucket>,
    task: JoinHandle<()>,
}

/// What a store of this kind does to objects on their way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writes {
    /// Keeps them.
    #[default]
    Sound,
    /// Keeps other bytes of the same length and acknowledges them without a checksum; who asks is told the truth.
    Flipped,
    /// The same, and swears that the bytes are right: to a client, as if its own verification believed everything.
    FlippedAndSworn,
}

/// An object as it lies here.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Size in bytes.
    pub bytes: Bytes,
    /// Its hash.
    pub sha256: Sha256,
    /// What is said of them when somebody asks; as a rule the truth.
    sworn: Sworn,
    /// When they came, by the clock of whoever uses the store.
    pub modified: DateTime<Utc>,
    headers: Vec<(String, String)>,
}

/// A checksum as it is told: as S3 does it, that of the object's one PUT or the one its parts were put together with.
#[derive(Debug, Clone, Copy)]
enum Sworn {
    Sha256(Sha256),
    Crc64Nvme(Crc64Nvme),
}

impl Sworn {
    /// Name and value of the header that tells it.
    fn header(self) -> (&'static str, String) {
        match self {
            Self::Sha256(hash) => ("x-amz-checksum-sha256", hash.base64()),
            Self::Crc64Nvme(crc) => ("x-amz-checksum-crc64nvme", crc.base64()),
        }
    }

    fn etag(self) -> String {
        match self {
            Self::Sha256(hash) => format!("\"{:.32}\"", hash.to_string()),
            Self::Crc64Nvme(crc) => format!("\"{crc}-1\""),
        }
    }
}

#[derive(Debug, Default)]
struct Bucket {
    clock: Mutex<Clock>,
    objects: Mutex<BTreeMap<String, Kept>>,
    uploads: Mutex<BTreeMap<String, parts::Upload>>,
    writes: Mutex<Writes>,
}

impl Bucket {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.objects.lock().unwrap()
    }

    fn uploads(&self) -> MutexGuard<'_, BTreeMap<String, parts::Upload>> {
        self.uploads.lock().unwrap()
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.lock().unwrap().now()
    }

    fn writes(&self) -> Writes {
        *self.writes.lock().unwrap()
    }

    fn keep(
        &self,
        key: &str,
        bytes: Bytes,
        sworn: Option<Sworn>,
        headers: Vec<(String, String)>,
        modified: DateTime<Utc>,
    ) {
        let sha256 = Sha256::of(&bytes);
        let sworn = sworn.unwrap_or(Sworn::Sha256(sha256));
        let kept = Kept { bytes, sha256, sworn, modified, headers };
        self.objects().insert(key.to_owned(), kept);
    }
}

impl MemoryS3 {
    /// Starts an empty one on a free port of the loopback address.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bucket = Arc::<Bucket>::default();
        let task = tokio::spawn(http::listen(listener, Arc::clone(&bucket)));
        Self { address, bucket, task }
    }

    /// The bound address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells time by this clock from now on.
    pub fn set_clock(&self, clock: &Clock) {
        *self.bucket.clock.lock().unwrap() = clock.clone();
    }

    /// What happens to objects that come in from now on.
    pub fn set_writes(&self, writes: Writes) {
        *self.bucket.writes.lock().unwrap() = writes;
    }

    /// All that it holds.
    pub fn objects(&self) -> BTreeMap<String, Kept> {
        self.bucket.objects().clone()
    }

    /// The keys of uploads in parts that were not finished, by their ids.
    pub fn uploads(&self) -> BTreeMap<String, String> {
        let uploads = self.bucket.uploads();
        uploads.iter().map(|(id, upload)| (id.clone(), upload.key.clone())).collect()
    }

    /// Puts bytes there without anybody's asking, as if they had lain there for so long.
    pub fn place(&self, key: &str, bytes: Bytes, age: Duration) {
        self.bucket.keep(key, bytes, None, Vec::new(), self.bucket.now() - age);
    }

    /// Takes an object away without anybody's asking.
    pub fn remove(&self, key: &str) {
        self.bucket.objects().remove(key);
    }

    /// Forgets everything, its faults too.
    pub fn clear(&self) {
        self.bucket.objects().clear();
        self.bucket.uploads().clear();
        self.set_writes(Writes::Sound);
    }
}

impl Drop for MemoryS3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}
