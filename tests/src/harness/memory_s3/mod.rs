//! A small in-process S3 server, behind real HTTP, for thousands of short tests. It keeps whole objects in memory,
//! verifies and stores the SHA-256 sent with them, and reports its content correctly. Supports what small files need:
//! put, get with ranges, head, delete (one or several), list, multipart uploads. It verifies no signatures and has one
//! bucket with any name. Faults are injected by the proxy, except those that only a store itself can have. What happens to
//! its objects is recorded.

mod http;
mod journal;
mod parts;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use chrono::{DateTime, Duration, Utc};
use nightferry_core::checksum::{Crc64Nvme, Sha256};
use nightferry_core::clock::Clock;
use nightferry_core::store::IDENTITY_KEY;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use journal::{Event, What, moment};

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct MemoryS3 {
    address: SocketAddr,
    bucket: Arc<Bucket>,
    task: JoinHandle<()>,
}

/// What the store does with received objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Writes {
    /// Stores them.
    #[default]
    Sound,
    /// Stores other content of the same length and acknowledges it without a checksum; later requests return the true
    /// checksum.
    Flipped,
    /// Stores other content, and also returns the checksum of the received content, as if its own verification had
    /// succeeded.
    FlippedAndSworn,
    /// Stores them without verifying them, and returns the checksum that was sent; later requests return the true
    /// checksum.
    Unverified,
    /// Like `Unverified`, and stores other content of the same length.
    FlippedUnverified,
}

impl Writes {
    /// Whether a checksum is verified.
    const fn verifies(self) -> bool {
        !matches!(self, Self::Unverified | Self::FlippedUnverified)
    }
}

/// What the store does when an object is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletion {
    /// Deletes it.
    #[default]
    Done,
    /// Denies access.
    Refused,
    /// Keeps it, and does not mention it in the response to a batch.
    Unmentioned,
}

/// A stored object.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Size in bytes.
    pub bytes: Bytes,
    /// Hash.
    pub sha256: Sha256,
    /// The checksums that are returned; normally the true ones.
    sworn: Sworn,
    /// The time of the upload, by the clock of the user of the store.
    pub modified: DateTime<Utc>,
    headers: Vec<(String, String)>,
}

/// A checksum as returned by S3: that of the object's single PUT, or the combination of the checksums of its parts.
#[derive(Debug, Clone, Copy)]
enum Sworn {
    Sha256(Sha256),
    Crc64Nvme(Crc64Nvme),
}

impl Sworn {
    /// Name and value of the header that contains it.
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
    keeps_versions: AtomicBool,
    /// By key; all others are deleted.
    deletions: Mutex<BTreeMap<String, Deletion>>,
    /// The content, while the bucket is exchanged for another one.
    away: Mutex<Option<BTreeMap<String, Kept>>>,
    journal: Mutex<Vec<Event>>,
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

    fn deletion_of(&self, key: &str) -> Deletion {
        self.deletions.lock().unwrap().get(key).copied().unwrap_or_default()
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
        // Recorded under the lock, so that the order is that of the changes.
        let mut objects = self.objects();
        let before = objects.insert(key.to_owned(), kept);
        if before.is_none_or(|before| before.sha256 != sha256) {
            self.note(key, What::Changed);
        }
    }

    /// The object, for a response that describes it: the `whole` of it, or a range.
    fn look(&self, key: &str, whole: bool) -> Option<Kept> {
        let objects = self.objects();
        let kept = objects.get(key)?.clone();
        if whole && self.away.lock().unwrap().is_none() {
            self.note(key, What::Shown(kept.sha256));
        }
        Some(kept)
    }

    /// Deletes an object because of a request.
    fn delete(&self, key: &str) {
        let mut objects = self.objects();
        if let Some(kept) = objects.remove(key) {
            self.note(key, What::Deleted(kept.sha256));
        }
    }

    fn note(&self, key: &str, what: What) {
        self.journal.lock().unwrap().push(Event { moment: moment(), key: key.to_owned(), what });
    }

    /// Exchanges the content. Returns the content before.
    fn replace(&self, content: BTreeMap<String, Kept>) -> BTreeMap<String, Kept> {
        let mut objects = self.objects();
        let before = std::mem::replace(&mut *objects, content);
        for key in before.keys().chain(objects.keys()) {
            self.note(key, What::Changed);
        }
        before
    }
}

impl MemoryS3 {
    /// Starts an empty server on a free port of the loopback address.
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

    /// Uses this clock from now on.
    pub fn set_clock(&self, clock: &Clock) {
        *self.bucket.clock.lock().unwrap() = clock.clone();
    }

    /// Sets what happens to objects received from now on.
    pub fn set_writes(&self, writes: Writes) {
        *self.bucket.writes.lock().unwrap() = writes;
    }

    /// Sets what happens from now on when the object of this key is to be deleted.
    pub fn set_deletion(&self, key: &str, deletion: Deletion) {
        self.bucket.deletions.lock().unwrap().insert(key.to_owned(), deletion);
    }

    /// Reports from now on that the bucket keeps versions.
    pub fn keep_versions(&self) {
        self.bucket.keeps_versions.store(true, Ordering::Relaxed);
    }

    /// The whole content.
    pub fn objects(&self) -> BTreeMap<String, Kept> {
        self.bucket.objects().clone()
    }

    /// The keys of unfinished multipart uploads, by upload id.
    pub fn uploads(&self) -> BTreeMap<String, String> {
        let uploads = self.bucket.uploads();
        uploads.iter().map(|(id, upload)| (id.clone(), upload.key.clone())).collect()
    }

    /// Writes an object without a request, as if it had this age.
    pub fn place(&self, key: &str, bytes: Bytes, age: Duration) {
        self.bucket.keep(key, bytes, None, Vec::new(), self.bucket.now() - age);
    }

    /// Deletes an object without a request.
    pub fn remove(&self, key: &str) {
        let mut objects = self.bucket.objects();
        if objects.remove(key).is_some() {
            self.bucket.note(key, What::Changed);
        }
    }

    /// Exchanges the bucket for another one, which is empty and has no identity, as if its name in the settings had been
    /// changed. Unfinished multipart uploads stay.
    pub fn exchange(&self) {
        let is_away = self.bucket.away.lock().unwrap().is_some();
        if !is_away {
            let content = self.bucket.replace(BTreeMap::new());
            *self.bucket.away.lock().unwrap() = Some(content);
        }
    }

    /// Ends the exchange. Returns the content of the other bucket.
    pub fn bring_back(&self) -> BTreeMap<String, Kept> {
        let content = self.bucket.away.lock().unwrap().take();
        content.map(|content| self.bucket.replace(content)).unwrap_or_default()
    }

    /// What has happened since the last call, or since everything was deleted.
    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.bucket.journal.lock().unwrap())
    }

    /// Deletes everything except the identity, including faults.
    pub fn clear(&self) {
        self.bring_back();
        self.bucket.objects().retain(|key, _| key == IDENTITY_KEY);
        self.bucket.uploads().clear();
        self.bucket.deletions.lock().unwrap().clear();
        self.set_writes(Writes::Sound);
        self.take_events();
    }
}

impl Drop for MemoryS3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}
