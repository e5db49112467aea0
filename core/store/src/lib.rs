//! An S3 endpoint and its bucket: control requests, streamed bodies, and error classification.
//!
//! rust-s3 signs requests and our own pooled client sends them, because the transfers of rust-s3 copy and hash every
//! body. Independent of the database and the configuration. Never retries: callers use [`nightferry_ground::retry`].

mod archive;
mod body;
mod bucket;
mod buffers;
mod canary;
mod chunked;
mod delete;
mod error;
mod get;
mod http;
mod identity;
mod label;
mod list;
mod multipart;
mod object;
mod options;
mod pieces;
mod presign;
mod scope;
mod send;
mod settings;
mod sign;
mod xml;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use s3::Bucket;
use s3::creds::Credentials;
use s3::region::Region;
use secrecy::ExposeSecret as _;

use crate::encryption::Keyring;
pub use nightferry_ground::object_key::{
    CANARY_PREFIX, IDENTITY_KEY, NAME_LIMIT, ObjectKey, ParseKeyError, SNAPSHOT_PREFIX,
};
pub use nightferry_ground::store_role::StoreRole;
use nightferry_ground::{checksum, encryption, retry};

pub use archive::{RestoreAnswer, RestoreStatus, is_archive_class};
pub use body::{Body, BodyLengthError};
pub use canary::{Canary, Check, Evidence, Outcome, SendMode};
pub use delete::{BatchDeletion, DELETE_LIMIT};
pub use error::{BoxError, StoreError, StoreErrorKind, Verdict};
pub use get::{ByteRange, GetObject, ObjectBody};
pub use http::{CONNECT_DEADLINE, HttpClient, HttpClientError, install_crypto};
pub use label::{Label, Shared};
pub use list::{LIST_LIMIT, ListPage, ListedObject, ListedUpload, UploadMarker, UploadPage};
pub use multipart::{CompletedPart, UploadId};
pub use object::{ObjectHead, PutReceipt};
pub use options::{PutOptions, metadata};
pub use pieces::{Gathering, Pieces};
pub use scope::{Condition, Scope};
pub use settings::{Deadlines, StoreName, StoreNameError, StoreSettings};

/// A client of a store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    settings: StoreSettings,
    http: reqwest::Client,
    /// Signs requests of this process.
    bucket: Bucket,
    /// Signs requests of clients.
    public_bucket: Bucket,
    /// What the store did with canaries, see [`canary`].
    canary: RwLock<Option<Arc<Canary>>>,
    /// Whether the store refused to delete several objects with one request, see [`delete`].
    one_by_one: AtomicBool,
}

impl Store {
    /// Creates the client of a store; sends nothing yet. Fails only for invalid settings, with
    /// [`StoreErrorKind::Invalid`]. Reads certificate files: call it at start.
    pub fn open(settings: StoreSettings, http: &HttpClient) -> Result<Self, StoreError> {
        http::install_crypto();
        s3::set_retries(0);
        let bucket = open_bucket(&settings, &settings.endpoint)?;
        let public_bucket = match &settings.public_endpoint {
            Some(endpoint) => open_bucket(&settings, endpoint)?,
            None => bucket.clone(),
        };
        let (http, canary, one_by_one) = (http.0.clone(), RwLock::default(), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { settings, http, bucket, public_bucket, canary, one_by_one })))
    }

    /// The configured name of the store.
    pub fn name(&self) -> &StoreName {
        &self.0.settings.name
    }

    /// Role of the store.
    pub fn role(&self) -> StoreRole {
        self.0.settings.role
    }

    /// Settings.
    pub fn settings(&self) -> &StoreSettings {
        &self.0.settings
    }

    /// Encryption keys.
    pub fn keys(&self) -> Option<&Keyring> {
        self.0.settings.keys.as_deref()
    }

    fn error(&self, operation: &'static str, kind: StoreErrorKind, detail: impl Into<String>) -> StoreError {
        StoreError::new(self.name(), operation, kind, detail)
    }

    fn invalid(&self, operation: &'static str, cause: &impl fmt::Display) -> StoreError {
        self.error(operation, StoreErrorKind::Invalid, cause.to_string())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

fn open_bucket(settings: &StoreSettings, endpoint: &str) -> Result<Bucket, StoreError> {
    let invalid = |detail: String| StoreError::new(&settings.name, "Open", StoreErrorKind::Invalid, detail);
    let endpoint =
        plain_endpoint(endpoint).map_err(|reason| invalid(format!("endpoint {endpoint:?} {reason}")))?;
    if settings.bucket.is_empty() || settings.bucket.contains(['/', '?', '#']) {
        return Err(invalid(format!("{:?} cannot name a bucket", settings.bucket)));
    }
    let credentials = Credentials::new(
        Some(settings.access_key.expose_secret()),
        Some(settings.secret_key.expose_secret()),
        None,
        settings.session_token.as_ref().map(secrecy::ExposeSecret::expose_secret),
        None,
    )
    .map_err(|error| invalid(error.to_string()))?;
    let region = Region::Custom { region: settings.region.clone(), endpoint };
    let bucket =
        Bucket::new(&settings.bucket, region, credentials).map_err(|error| invalid(error.to_string()))?;
    Ok(if settings.path_style { *bucket.with_path_style() } else { *bucket })
}

/// The endpoint without a trailing slash or a default port, as HTTP clients write it in `Host`: the signature covers
/// it.
fn plain_endpoint(endpoint: &str) -> Result<String, &'static str> {
    let url = reqwest::Url::parse(endpoint).map_err(|_| "is not a URL such as http://127.0.0.1:9000")?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("must start with http:// or https:// and a host");
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("must contain only scheme, host, port and path");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_operation_can_run_in_a_spawned_task() {
        fn is_send<T: Send>(_: impl FnOnce(&'static Store, &'static ObjectKey) -> T) {}
        is_send(|store, _| store.check());
        is_send(|store, _| store.ensure_bucket());
        is_send(|store, key| store.get(key, None));
        is_send(Store::head);
        is_send(Store::delete);
        is_send(|store, key| store.delete_batch(std::slice::from_ref(key)));
        is_send(
            |store, key| async move { store.put(key, Bytes::new().into(), &PutOptions::default()).await },
        );
        is_send(|store, key| async move {
            store.put_trailing(key, Bytes::new().into(), &PutOptions::default()).await
        });
        is_send(|store, key| async move { store.create_multipart(key, &PutOptions::default()).await });
        is_send(|store, key| async move {
            let upload = UploadId::new("");
            store.put_part(key, &upload, 1, Bytes::new().into(), None).await?;
            store.put_part_trailing(key, &upload, 1, Bytes::new().into()).await?;
            store.complete_multipart(key, &upload, &[], None).await?;
            store.abort_multipart(key, &upload).await
        });
        is_send(|store, _| store.list("", None, 1));
        is_send(|store, _| store.identity());
        is_send(|store, _| store.write_identity(uuid::Uuid::nil()));
        is_send(|store, _| store.keeps_versions());
        is_send(|store, _| store.send_canaries());
        is_send(|store, _| store.list_multipart_uploads(""));
        is_send(|store, _| store.list_multipart_uploads_page("", None, 1));
        is_send(|store, key| store.presign_get(key, std::time::Duration::ZERO, None, None));
    }

    #[test]
    fn endpoints_are_normalised_for_signing() {
        assert_eq!(plain_endpoint("http://127.0.0.1:9000/"), Ok("http://127.0.0.1:9000".to_owned()));
        assert_eq!(plain_endpoint("https://S3.example.com:443"), Ok("https://s3.example.com".to_owned()));
        assert_eq!(plain_endpoint("http://host:80"), Ok("http://host".to_owned()));
        assert_eq!(plain_endpoint("http://host/base/"), Ok("http://host/base".to_owned()));
        for wrong in ["", "minio:9000", "host", "ftp://host", "http://", "http://u:p@host", "http://host?x=1"]
        {
            assert!(plain_endpoint(wrong).is_err(), "{wrong:?}");
        }
    }
}
