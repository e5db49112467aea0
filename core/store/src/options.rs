//! The properties of an object besides its content, and their encoding in headers.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::checksum::{Crc64Nvme, Sha256};

/// Metadata names of every object, from which the catalogue can be rebuilt.
///
/// No name may be a prefix of another: rust-s3 orders such headers incorrectly when signing.
pub mod metadata {
    /// Id of the object.
    pub const OBJECT: &str = "nf-object";
    /// Id of the owner.
    pub const OWNER: &str = "nf-owner";
    /// File name at upload.
    pub const NAME: &str = "nf-name";
    /// Id of the file with this version.
    pub const FILE: &str = "nf-file";
    /// SHA-256, hexadecimal.
    pub const SHA256: &str = "nf-sha256";
    /// Version number.
    pub const VERSION: &str = "nf-version";
    /// Time of the upload, RFC 3339.
    pub const TIME: &str = "nf-time";
    /// CRC-64/NVME, 16 hexadecimal digits.
    pub const CRC64NVME: &str = "nf-crc64nvme";
    /// Email address of the owner's account.
    pub const EMAIL: &str = "nf-email";
    /// Folder of the file, with names separated by slashes; absent in the root folder.
    pub const FOLDER: &str = "nf-directory";
    /// File name at upload, if different.
    pub const ORIGINAL: &str = "nf-original";
    /// Further versions with the same object, as JSON.
    pub const ALSO: &str = "nf-also";
    /// The fields that were omitted or truncated because of the limit of 2 KB.
    pub const CUT: &str = "nf-cut";
}

pub(super) const CHECKSUM_SHA256: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
pub(super) const CHECKSUM_CRC64NVME: HeaderName = HeaderName::from_static("x-amz-checksum-crc64nvme");
pub(super) const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");
pub(super) const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");
pub(super) const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
pub(super) const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
pub(super) const RESTORE: HeaderName = HeaderName::from_static("x-amz-restore");
const METADATA_PREFIX: &str = "x-amz-meta-";

/// Everything except visible ASCII, and the escape character itself. Spaces are escaped too: some signers collapse
/// them.
const METADATA_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The properties stored with an object.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// Media type; `application/octet-stream` if absent.
    pub content_type: Option<String>,
    /// User metadata: names in lower case (see [`metadata`]), values are arbitrary text.
    pub metadata: BTreeMap<&'static str, String>,
    /// The store rejects other content. S3 accepts one checksum per request: this one is sent if both are known.
    pub sha256: Option<Sha256>,
    /// The store rejects other content.
    pub crc64nvme: Option<Crc64Nvme>,
    /// Overrides the store's default storage class.
    pub storage_class: Option<String>,
}

/// A header that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("header {0} cannot contain this value")]
    Value(String),
    #[error("{0:?} is not a valid metadata name")]
    Name(String),
    #[error("the header names {0} and {1} cannot be signed together")]
    Ambiguous(String, String),
}

impl PutOptions {
    /// The `x-amz-*` headers except those of checksums, ready to be signed.
    pub(super) fn headers(&self, default_class: Option<&str>) -> Result<HeaderMap, HeaderError> {
        let mut headers = HeaderMap::with_capacity(self.metadata.len() + 4);
        if let Some(class) = self.storage_class.as_deref().or(default_class) {
            headers.insert(STORAGE_CLASS, value(STORAGE_CLASS.as_str(), class)?);
        }
        for (name, text) in &self.metadata {
            let full = format!("{METADATA_PREFIX}{name}");
            let name = HeaderName::try_from(&full).map_err(|_| HeaderError::Name((*name).to_owned()))?;
            let encoded = utf8_percent_encode(text, METADATA_VALUE).to_string();
            headers.insert(name, value(&full, &encoded)?);
        }
        refuse_ambiguous(&headers)?;
        Ok(headers)
    }

    /// Adds the one checksum header that S3 accepts.
    pub(super) fn add_checksum(&self, headers: &mut HeaderMap) -> Result<(), HeaderError> {
        if let Some(sha256) = self.sha256 {
            headers.insert(CHECKSUM_SHA256, value(CHECKSUM_SHA256.as_str(), &sha256.base64())?);
        } else if let Some(crc) = self.crc64nvme {
            headers.insert(CHECKSUM_CRC64NVME, value(CHECKSUM_CRC64NVME.as_str(), &crc.base64())?);
        }
        Ok(())
    }
}

/// The size of a metadata entry within S3's 2 KB, as counted by the strictest servers: the whole header name and the
/// encoded value.
pub(super) fn metadata_cost(name: &str, text: &str) -> usize {
    METADATA_PREFIX.len()
        + name.len()
        + utf8_percent_encode(text, METADATA_VALUE).map(str::len).sum::<usize>()
}

pub(super) fn value(name: &str, text: &str) -> Result<HeaderValue, HeaderError> {
    HeaderValue::from_str(text).map_err(|_| HeaderError::Value(name.to_owned()))
}

/// rust-s3 signs `foo` and `foo-bar` in the wrong order; an error here is better than a 403 response.
fn refuse_ambiguous(headers: &HeaderMap) -> Result<(), HeaderError> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    for (name, next) in names.iter().zip(names.iter().skip(1)) {
        if next.starts_with(name) {
            return Err(HeaderError::Ambiguous((*name).to_owned(), (*next).to_owned()));
        }
    }
    Ok(())
}

/// The user metadata of a response, decoded.
pub(super) fn read_metadata(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(METADATA_PREFIX)?;
            let value = percent_decode_str(value.to_str().ok()?).decode_utf8_lossy();
            Some((name.to_owned(), value.into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;
    use crate::encryption::EncryptionEnvelope;

    fn with(metadata: &[(&'static str, &str)]) -> PutOptions {
        let metadata = metadata.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        PutOptions { metadata, ..PutOptions::default() }
    }

    #[test]
    fn the_names_in_use_can_be_signed_together() {
        use metadata::{
            ALSO, CRC64NVME, CUT, EMAIL, FILE, FOLDER, NAME, OBJECT, ORIGINAL, OWNER, SHA256, TIME, VERSION,
        };
        let names =
            [OBJECT, OWNER, NAME, FILE, SHA256, VERSION, TIME, CRC64NVME, EMAIL, FOLDER, ORIGINAL, ALSO, CUT];
        let mut options = with(&names.map(|name| (name, "x")));
        options.metadata.insert(EncryptionEnvelope::KEY_ID, "8".to_owned());
        options.metadata.insert(EncryptionEnvelope::ENVELOPE, "9".to_owned());
        options.sha256 = Some(Sha256::of(b""));
        let mut headers = options.headers(Some("STANDARD_IA")).unwrap();
        options.add_checksum(&mut headers).unwrap();
        assert_eq!(headers.len(), names.len() + 4);
        refuse_ambiguous(&headers).unwrap();
    }

    #[test]
    fn names_that_rust_s3_would_sign_wrongly_are_refused() {
        assert!(matches!(
            with(&[("foo", "1"), ("foo-bar", "2")]).headers(None),
            Err(HeaderError::Ambiguous(..))
        ));
        assert!(matches!(with(&[("föö", "1")]).headers(None), Err(HeaderError::Name(_))));
    }

    #[test]
    fn only_one_checksum_is_sent() {
        let both = PutOptions {
            sha256: Some(Sha256::of(b"")),
            crc64nvme: Some(Crc64Nvme::EMPTY),
            ..PutOptions::default()
        };
        let mut headers = HeaderMap::new();
        both.add_checksum(&mut headers).unwrap();
        assert_eq!(headers.keys().collect::<Vec<_>>(), [&CHECKSUM_SHA256]);
    }

    proptest! {
        #[test]
        fn any_text_can_be_stored_in_metadata(text in any::<String>()) {
            let headers = with(&[("nf-name", &text)]).headers(None).unwrap();
            let sent = headers["x-amz-meta-nf-name"].to_str().unwrap();
            prop_assert!(!sent.contains(' '));
            prop_assert_eq!(&read_metadata(&headers)["nf-name"], &text);
        }
    }
}
