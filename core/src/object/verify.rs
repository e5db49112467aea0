//! The proof that a store holds the right bytes: by what its answer says, else by asking again, else by reading
//! everything back.

use std::time::Duration;

use crate::checksum::{Crc64Nvme, ObjectDigest, Sha256};
use crate::encryption::{Seal, sealed_size};
use crate::retry::RetryPolicy;
use crate::store::{ObjectKey, PutReceipt, Store, StoreError, Verdict};

use super::crypto::{self, ObjectRef};
use super::pace::Pace;

/// For requests whose body is at hand: a few tries within a second or two, before the caller is told.
pub const QUICK_RETRY: RetryPolicy = RetryPolicy {
    initial: Duration::from_millis(100),
    cap: Duration::from_secs(1),
    max_attempts: 4,
    max_elapsed: None,
};

/// What an object must be.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub sha256: Sha256,
    /// CRC-64/NVME of the bytes.
    pub crc64nvme: Crc64Nvme,
}

/// What an object must be, and the form in which a store has it.
#[derive(Debug, Clone)]
pub struct Form {
    /// The object.
    pub expected: Expected,
    /// How it is encrypted there; none where it lies as it is.
    pub seal: Option<Seal>,
    /// CRC-64/NVME of the encrypted bytes, where it is known.
    pub sealed_crc64nvme: Option<Crc64Nvme>,
}

impl Expected {
    /// Lying in a store as it is.
    pub fn plain(self) -> Form {
        Form { expected: self, seal: None, sealed_crc64nvme: None }
    }

    /// Encrypted.
    pub fn sealed(self, seal: Seal, crc64nvme: Option<Crc64Nvme>) -> Form {
        Form { expected: self, seal: Some(seal), sealed_crc64nvme: crc64nvme }
    }
}

impl Form {
    /// Bytes that the store must have.
    pub fn stored_size(&self) -> u64 {
        match self.seal {
            None => self.expected.size,
            Some(_) => sealed_size(self.expected.size),
        }
    }

    fn sha256(&self) -> Option<Sha256> {
        self.seal.is_none().then_some(self.expected.sha256)
    }

    fn crc64nvme(&self) -> Option<Crc64Nvme> {
        if self.seal.is_none() { Some(self.expected.crc64nvme) } else { self.sealed_crc64nvme }
    }

    fn object<'a>(&'a self, key: &'a ObjectKey) -> ObjectRef<'a> {
        ObjectRef { key, size: self.expected.size, seal: self.seal.as_ref() }
    }
}

impl From<&ObjectDigest> for Form {
    /// These bytes, lying in a store as they are.
    fn from(digest: &ObjectDigest) -> Self {
        Expected { size: digest.size, sha256: digest.sha256, crc64nvme: digest.crc64nvme }.plain()
    }
}

/// Why an object is not proved.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It acknowledged, but has no such object.
    #[error("store {0} acknowledged the object but does not have it")]
    Missing(String),
    /// It holds other bytes.
    #[error("store {store} holds {what} instead of {wanted}")]
    Wrong {
        /// Store.
        store: String,
        /// What it has.
        what: String,
        /// What it should have.
        wanted: String,
    },
}

impl From<Unproved> for crate::error::Error {
    fn from(error: Unproved) -> Self {
        match error {
            Unproved::Store(error) => Self::Store(error),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// Proves an object after a PUT or a completed multipart upload. The answer's own checksum is proof and costs
/// nothing. A store that gave none is asked with a HEAD; one that keeps no checksums at all is read back, at this pace.
pub async fn prove(
    store: &Store,
    key: &ObjectKey,
    receipt: &PutReceipt,
    form: &Form,
    pace: Option<&Pace>,
) -> Result<(), Unproved> {
    match compare(store, receipt.sha256, receipt.crc64nvme, form)? {
        Some(()) => Ok(()),
        None => prove_by_asking(store, key, form, pace).await,
    }
}

/// Proves an object whose PUT was answered nothing, or long ago.
pub async fn prove_by_asking(
    store: &Store,
    key: &ObjectKey,
    form: &Form,
    pace: Option<&Pace>,
) -> Result<(), Unproved> {
    match look(store, key, form).await? {
        Look::Proved => Ok(()),
        Look::SizeOnly(_) => prove_by_reading(store, key, form, pace).await,
    }
}

/// Proves that an object is still the one that was verified before. Where a HEAD tells no checksum that can be compared,
/// the entity tag of that time is as good: S3 gives other bytes another one. Where neither helps, the object is read.
pub async fn prove_untouched(
    store: &Store,
    key: &ObjectKey,
    form: &Form,
    verified_etag: Option<&str>,
) -> Result<(), Unproved> {
    match look(store, key, form).await? {
        Look::Proved => Ok(()),
        Look::SizeOnly(etag) if verified_etag == Some(etag.as_str()) => Ok(()),
        Look::SizeOnly(_) => prove_by_reading(store, key, form, None).await,
    }
}

/// What a HEAD shows of an object whose size is right.
enum Look {
    /// Its checksum is right.
    Proved,
    /// The store tells no checksum that can be compared. This is the entity tag.
    SizeOnly(String),
}

async fn look(store: &Store, key: &ObjectKey, form: &Form) -> Result<Look, Unproved> {
    let head = store.head(key).await?.ok_or_else(|| Unproved::Missing(store.name().to_string()))?;
    let wanted = form.stored_size();
    if head.size != wanted {
        return Err(Unproved::Wrong {
            store: store.name().to_string(),
            what: format!("{} bytes", head.size),
            wanted: format!("{wanted} bytes"),
        });
    }
    match compare(store, head.sha256, head.crc64nvme, form)? {
        Some(()) => Ok(Look::Proved),
        None => Ok(Look::SizeOnly(head.etag)),
    }
}

/// Downloads the object, decrypts it where it is encrypted, and hashes it.
pub async fn prove_by_reading(
    store: &Store,
    key: &ObjectKey,
    form: &Form,
    pace: Option<&Pace>,
) -> Result<(), Unproved> {
    let (_, sha256) = read_whole(store, form.object(key), pace).await?;
    if sha256 == form.expected.sha256 {
        return Ok(());
    }
    Err(Unproved::Wrong {
        store: store.name().to_string(),
        what: format!("SHA-256 {sha256}"),
        wanted: form.expected.sha256.to_string(),
    })
}

/// Size in bytes and SHA-256 of what a store gives out, decrypted where it decrypts; read at this pace, if at any.
pub async fn read_whole(
    store: &Store,
    object: ObjectRef<'_>,
    pace: Option<&Pace>,
) -> Result<(u64, Sha256), StoreError> {
    let passed = async |bytes| {
        if let Some(pace) = pace {
            pace.pass(bytes).await;
        }
    };
    let hashed = crypto::hash(store, object, passed).await?;
    Ok((hashed.size, hashed.sha256))
}

/// What a store holds of an object, told by reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The right bytes.
    Right,
    /// Nothing.
    Missing,
    /// These bytes, in two readings.
    Wrong {
        /// How many.
        size: u64,
        /// Their hash.
        sha256: Sha256,
    },
    /// Each reading gives other bytes.
    Unsure,
}

/// A copy must not be condemned for one bad reading: bytes are also broken on their way. Reads until a reading is right or
/// two agree; `first` is one that was wrong already.
///
/// # Errors
/// Whatever `read` meets, except that the object is missing.
pub async fn second_look<Fut>(
    right: (u64, Sha256),
    first: Option<(u64, Sha256)>,
    mut read: impl FnMut() -> Fut,
) -> Result<Held, StoreError>
where
    Fut: Future<Output = Result<(u64, Sha256), StoreError>>,
{
    let mut seen = first;
    loop {
        let held = match read().await {
            Err(error) if error.verdict() == Verdict::SourceMissing => return Ok(Held::Missing),
            held => held?,
        };
        if held == right {
            return Ok(Held::Right);
        }
        match seen.replace(held) {
            None => {}
            Some(before) if before == held => {
                let (size, sha256) = held;
                return Ok(Held::Wrong { size, sha256 });
            }
            Some(_) => return Ok(Held::Unsure),
        }
    }
}

/// Whether what a store says of itself is right; none when it says nothing that can be compared.
fn compare(
    store: &Store,
    sha256: Option<Sha256>,
    crc: Option<Crc64Nvme>,
    form: &Form,
) -> Result<Option<()>, Unproved> {
    let wrong =
        |what: String, wanted: String| Unproved::Wrong { store: store.name().to_string(), what, wanted };
    let (sha256, crc) = (sha256.zip(form.sha256()), crc.zip(form.crc64nvme()));
    match (sha256, crc) {
        (Some((sha256, wanted)), _) if sha256 != wanted => {
            Err(wrong(format!("SHA-256 {sha256}"), wanted.to_string()))
        }
        (_, Some((crc, wanted))) if crc != wanted => {
            Err(wrong(format!("CRC-64/NVME {crc}"), wanted.to_string()))
        }
        (None, None) => Ok(None),
        _ => Ok(Some(())),
    }
}
