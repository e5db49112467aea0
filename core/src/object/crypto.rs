//! Encryption and decryption of objects during transfers to and from a store. Connects `store` and `encryption`, which
//! are independent of each other.
//!
//! The envelope stored with the object takes precedence over the one in the database: a write of a worker that had lost
//! its lease may have arrived after the recorded one. It cannot be forged, because it can be decrypted only with the
//! operator's key, and only for this object.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};

use crate::checksum::{Sha256, Sha256Hasher};
use crate::encryption::{
    self, Broken, CHUNK, Cipher, Contents, EncryptionEnvelope, OpenError, Span, TAG, encrypted_size,
};
use crate::store::{BoxError, ByteRange, GetObject, ObjectKey, Store, StoreError, StoreErrorKind};

const GET: &str = "GetObject";
const PUT: &str = "PutObject";

/// An object, or a range of it, as plaintext.
pub struct PlainObject {
    /// Plaintext size of the whole object, according to the store.
    pub total_size: u64,
    /// The content. Data of an encrypted object is returned only after its chunk has been authenticated.
    pub body: BoxStream<'static, Result<Bytes, StoreError>>,
}

/// The expected properties of an object to read.
#[derive(Debug, Clone, Copy)]
pub struct ObjectRef<'a> {
    /// Key in every store.
    pub key: &'a ObjectKey,
    /// Size of the plaintext.
    pub size: u64,
    /// The envelope in the replica's row; `None` if unencrypted.
    pub envelope: Option<&'a EncryptionEnvelope>,
}

/// Reads an object or a range of it, which must lie within the object.
///
/// # Errors
/// The errors of [`Store::get`]; [`StoreErrorKind::KeyMissing`] for an encrypted object whose key is not configured;
/// [`StoreErrorKind::Unauthentic`], even in the middle of the body, if the content is not authentic.
pub async fn read(
    store: &Store,
    wanted: ObjectRef<'_>,
    range: Option<ByteRange>,
) -> Result<PlainObject, StoreError> {
    if wanted.envelope.is_none() {
        let object = store.get(wanted.key, range).await?;
        if EncryptionEnvelope::from_metadata(&object.metadata).is_none() {
            return Ok(PlainObject { total_size: object.total_size, body: object.body.boxed() });
        }
        // Contrary to the row, the object was encrypted by a write that was not recorded.
    }
    let first = range.map_or(0, |range| range.first);
    let length = match range.and_then(|range| range.last) {
        Some(last) => last.saturating_sub(first).saturating_add(1),
        None => u64::MAX,
    };
    let Some(span) = Span::of(wanted.size, first, length) else {
        return Err(error(store, GET, StoreErrorKind::Invalid, "the range is outside of the object"));
    };
    let encrypted = ByteRange::of_length(span.encrypted_first, span.encrypted_length);
    let object = store.get(wanted.key, encrypted).await?;
    let cipher = cipher_of(store, wanted, &object)?;
    let whole = encrypted_size(wanted.size);
    if object.total_size != whole {
        let detail = format!("{} encrypted bytes instead of {whole}", object.total_size);
        return Err(error(store, GET, StoreErrorKind::Unauthentic, detail));
    }
    let store = store.clone();
    let body = encryption::decrypt(object.body, Arc::new(cipher), span).map(move |piece| {
        piece.map_err(|broken| match broken {
            Broken::Source(error) => error,
            Broken::Unauthentic(chunk) => error(&store, GET, StoreErrorKind::Unauthentic, chunk.to_string()),
        })
    });
    Ok(PlainObject { total_size: wanted.size, body: body.boxed() })
}

/// The SHA-256 of an object's plaintext according to its envelope, as written by a holder of the operator's key.
/// Whether the content matches is known only after reading it.
///
/// # Errors
/// [`StoreErrorKind::KeyMissing`] if no configured key decrypts the envelope for this object.
pub fn envelope_sha256(
    store: &Store,
    key: &ObjectKey,
    envelope: &EncryptionEnvelope,
) -> Result<Sha256, StoreError> {
    let contents = contents_of(store, key, envelope).map_err(|cause| key_missing(store, GET, &cause))?;
    Ok(contents.sha256)
}

/// The result of reading an object completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedObject {
    /// Size in bytes, of the plaintext if it decrypts.
    pub size: u64,
    /// SHA-256 of these bytes.
    pub sha256: Sha256,
    /// The envelope stored with the object; `None` if unencrypted.
    pub envelope: Option<EncryptionEnvelope>,
}

/// Reads a whole object and hashes it; `passed` is called with the number of bytes read. Content that does not decrypt
/// is hashed as ciphertext, so that two readings can be compared.
///
/// # Errors
/// Like [`read`], except for content that does not decrypt.
pub async fn hash<Fut>(
    store: &Store,
    wanted: ObjectRef<'_>,
    mut passed: impl FnMut(u64) -> Fut,
) -> Result<HashedObject, StoreError>
where
    Fut: Future<Output = ()>,
{
    let mut object = store.get(wanted.key, None).await?;
    let is_encrypted =
        wanted.envelope.is_some() || EncryptionEnvelope::from_metadata(&object.metadata).is_some();
    let mut opening = None;
    let mut envelope = None;
    if is_encrypted {
        let cipher = cipher_of(store, wanted, &object)?;
        envelope = EncryptionEnvelope::from_metadata(&object.metadata).or_else(|| wanted.envelope.cloned());
        opening = (object.total_size == encrypted_size(wanted.size)).then(|| DecryptingHasher::new(cipher));
    }
    let mut raw = Sha256Hasher::new();
    while let Some(piece) = object.body.next().await {
        let piece = piece?;
        passed(u64::try_from(piece.len()).unwrap_or(u64::MAX)).await;
        raw.update(&piece);
        if let Some(open) = &mut opening
            && !open.update(&piece)
        {
            opening = None;
        }
    }
    match opening {
        Some(open) => Ok(HashedObject { size: wanted.size, sha256: open.hasher.finish(), envelope }),
        None => Ok(HashedObject { size: object.length, sha256: raw.finish(), envelope }),
    }
}

/// Decrypts and hashes chunk by chunk.
struct DecryptingHasher {
    cipher: Cipher,
    chunk: bytes::BytesMut,
    index: u64,
    hasher: Sha256Hasher,
}

impl DecryptingHasher {
    fn new(cipher: Cipher) -> Self {
        Self { cipher, chunk: bytes::BytesMut::new(), index: 0, hasher: Sha256Hasher::new() }
    }

    /// Processes the next bytes. Returns false if they do not decrypt.
    fn update(&mut self, mut piece: &[u8]) -> bool {
        while !piece.is_empty() {
            let whole = usize::try_from(self.cipher.chunk_length(self.index) + TAG).unwrap_or(usize::MAX);
            let (head, tail) = piece.split_at(piece.len().min(whole.saturating_sub(self.chunk.len())));
            self.chunk.extend_from_slice(head);
            piece = tail;
            if self.chunk.len() == whole {
                if self.cipher.decrypt(self.index, &mut self.chunk).is_err() {
                    return false;
                }
                self.hasher.update(&self.chunk);
                self.chunk.clear();
                self.index += 1;
            }
        }
        true
    }
}

/// Encrypts one object.
#[derive(Debug, Clone)]
pub struct Encryptor {
    /// The envelope that is stored with the object.
    pub envelope: EncryptionEnvelope,
    cipher: Arc<Cipher>,
}

impl Encryptor {
    /// A new key for an object to be written. `None` for a store without encryption.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] if the system random number generator fails.
    pub fn begin(
        store: &Store,
        key: &ObjectKey,
        size: u64,
        sha256: &Sha256,
    ) -> Result<Option<Self>, StoreError> {
        let Some(keys) = store.keys() else { return Ok(None) };
        let made = keys
            .new_envelope(key.as_str(), sha256)
            .map_err(|cause| error(store, PUT, StoreErrorKind::Invalid, cause.to_string()))?;
        Ok(made.map(|(envelope, contents)| Self {
            envelope,
            cipher: Arc::new(Cipher::new(&contents.data_key, size)),
        }))
    }

    /// Resumes a write with this envelope: with the same ciphertext.
    ///
    /// # Errors
    /// [`StoreErrorKind::KeyMissing`].
    pub fn resume(
        store: &Store,
        key: &ObjectKey,
        size: u64,
        envelope: &EncryptionEnvelope,
    ) -> Result<Self, StoreError> {
        let contents = contents_of(store, key, envelope).map_err(|cause| key_missing(store, PUT, &cause))?;
        Ok(Self { envelope: envelope.clone(), cipher: Arc::new(Cipher::new(&contents.data_key, size)) })
    }

    /// Encrypts `plain`, `length` bytes from `offset`, which must be the start of a chunk. Returns the number of
    /// encrypted bytes and the bytes.
    pub fn encrypt<S>(
        &self,
        plain: S,
        offset: u64,
        length: u64,
    ) -> (u64, BoxStream<'static, Result<Bytes, BoxError>>)
    where
        S: futures_util::Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
    {
        let encrypted = encryption::encrypt(plain.boxed(), Arc::clone(&self.cipher), offset / CHUNK, length);
        (encrypted_size(length), encrypted.boxed())
    }
}

/// The cipher for an object returned by a store.
fn cipher_of(store: &Store, wanted: ObjectRef<'_>, object: &GetObject) -> Result<Cipher, StoreError> {
    let came_with = EncryptionEnvelope::from_metadata(&object.metadata);
    let contents = match came_with.map(|envelope| contents_of(store, wanted.key, &envelope)) {
        // Without its key, the content cannot be checked: it may be intact.
        Some(contents @ (Ok(_) | Err(OpenError::UnknownKey(_)))) => contents,
        // Missing, or damaged in transit.
        Some(Err(_)) | None => wanted
            .envelope
            .ok_or(OpenError::Form)
            .and_then(|envelope| contents_of(store, wanted.key, envelope)),
    };
    let contents = contents.map_err(|cause| key_missing(store, GET, &cause))?;
    Ok(Cipher::new(&contents.data_key, wanted.size))
}

fn contents_of(store: &Store, key: &ObjectKey, envelope: &EncryptionEnvelope) -> Result<Contents, OpenError> {
    match store.keys() {
        Some(keys) => keys.open(envelope, key.as_str()),
        None => Err(OpenError::UnknownKey(envelope.key_id.clone())),
    }
}

fn key_missing(store: &Store, operation: &'static str, cause: &OpenError) -> StoreError {
    error(store, operation, StoreErrorKind::KeyMissing, cause.to_string())
}

fn error(
    store: &Store,
    operation: &'static str,
    kind: StoreErrorKind,
    detail: impl Into<String>,
) -> StoreError {
    StoreError::new(store.name(), operation, kind, detail)
}
