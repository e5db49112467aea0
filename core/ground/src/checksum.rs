//! SHA-256 and CRC-64/NVME of objects, in the encodings of S3.
//!
//! SHA-256 identifies the content; CRC-64/NVME verifies transfers, because the CRCs of adjacent byte ranges can be
//! combined without reading anything again. Does no I/O.

mod blocks;

pub use blocks::{BLOCK, BlockCrcs, BlockCrcsError, ObjectDigest, UploadHasher};

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use sha2::Digest as _;

/// A text that is not a checksum of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {expected}")]
pub struct ParseChecksumError {
    kind: &'static str,
    expected: &'static str,
}

/// A SHA-256 digest (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Base64, as in `x-amz-checksum-sha256` and the `Digest` headers of HTTP.
    pub fn base64(&self) -> String {
        BASE64.encode(self.0)
    }

    /// Parses the output of [`Sha256::base64`].
    pub fn from_base64(text: &str) -> Result<Self, ParseChecksumError> {
        let wrong = ParseChecksumError { kind: "SHA-256", expected: "32 bytes in base64" };
        let bytes = BASE64.decode(text).map_err(|_| wrong.clone())?;
        bytes.as_slice().try_into().map_err(|_| wrong)
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Sha256 {
    type Error = ParseChecksumError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        let wrong = ParseChecksumError { kind: "SHA-256", expected: "32 bytes" };
        bytes.try_into().map(Self).map_err(|_| wrong)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = ParseChecksumError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| ParseChecksumError { kind: "SHA-256", expected: "64 hexadecimal digits" })?;
        Ok(Self(bytes))
    }
}

/// Computes a [`Sha256`] incrementally.
#[derive(Debug, Clone, Default)]
pub struct Sha256Hasher(sha2::Sha256);

impl Sha256Hasher {
    /// An empty hasher.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// A CRC-64/NVME checksum, S3's `CRC64NVME`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Crc64Nvme(u64);

impl Crc64Nvme {
    /// The checksum of an empty input: neutral in [`Crc64Nvme::combine`].
    pub const EMPTY: Self = Self(0);

    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// From the number, as stored in the database.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// As in `x-amz-checksum-crc64nvme`: base64 of the eight bytes, big-endian.
    pub fn base64(self) -> String {
        BASE64.encode(self.0.to_be_bytes())
    }

    /// Parses the output of [`Crc64Nvme::base64`].
    pub fn from_base64(text: &str) -> Result<Self, ParseChecksumError> {
        let wrong = ParseChecksumError { kind: "CRC-64/NVME", expected: "8 bytes in base64" };
        let bytes = BASE64.decode(text).map_err(|_| wrong.clone())?;
        bytes.as_slice().try_into().map_err(|_| wrong)
    }

    /// The checksum of the concatenation with `next_len` further bytes whose checksum is `next`.
    #[must_use]
    pub fn combine(self, next: Self, next_len: u64) -> Self {
        if next_len == 0 {
            return self;
        }
        Self(crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, self.0, next.0, next_len))
    }
}

impl fmt::Display for Crc64Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base64())
    }
}

impl fmt::Debug for Crc64Nvme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc64Nvme({:016x})", self.0)
    }
}

impl TryFrom<&[u8]> for Crc64Nvme {
    type Error = ParseChecksumError;

    /// From eight bytes, big-endian, as stored in the database.
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        let wrong = ParseChecksumError { kind: "CRC-64/NVME", expected: "8 bytes" };
        bytes.try_into().map(|bytes| Self(u64::from_be_bytes(bytes))).map_err(|_| wrong)
    }
}

/// Computes a [`Crc64Nvme`] incrementally.
#[derive(Debug, Clone)]
pub struct Crc64Hasher(crc_fast::Digest);

impl Crc64Hasher {
    /// An empty hasher.
    pub fn new() -> Self {
        Self(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes.
    pub fn finish(self) -> Crc64Nvme {
        Crc64Nvme(self.0.finalize())
    }
}

impl Default for Crc64Hasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn sha256_matches_the_published_vectors() {
        assert_eq!(Sha256::of(b"").to_string(), EMPTY_SHA256);
        assert_eq!(
            Sha256::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Sha256::of(b"").base64(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn crc64nvme_matches_the_catalogue_check_value() {
        // The "check" entry of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        assert_eq!(Crc64Nvme::of(b"123456789").as_u64(), 0xae8b_1486_0a79_9888);
        assert_eq!(Crc64Nvme::of(b""), Crc64Nvme::EMPTY);
        assert_eq!(Crc64Nvme::of(b"123456789").base64(), "rosUhgp5mIg=");
    }

    #[test]
    fn sha256_reads_any_case_and_writes_lower_case() {
        let upper: Sha256 = EMPTY_SHA256.to_uppercase().parse().unwrap();
        assert_eq!(upper.to_string(), EMPTY_SHA256);
    }

    #[test]
    fn texts_of_invalid_length_or_alphabet_are_rejected() {
        for wrong in ["", "e3b0", "zz", &EMPTY_SHA256[1..], &format!("{EMPTY_SHA256}00")] {
            assert!(wrong.parse::<Sha256>().is_err(), "{wrong:?}");
            assert!(Sha256::from_base64(wrong).is_err(), "{wrong:?}");
            assert!(Crc64Nvme::from_base64(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn incremental_hashing_equals_hashing_at_once(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let (mut sha256, mut crc) = (Sha256Hasher::new(), Crc64Hasher::new());
            for piece in &pieces {
                sha256.update(piece);
                crc.update(piece);
            }
            let whole = pieces.concat();
            prop_assert_eq!(sha256.finish(), Sha256::of(&whole));
            prop_assert_eq!(crc.finish(), Crc64Nvme::of(&whole));
        }

        #[test]
        fn combining_equals_hashing_the_whole(first in prop::collection::vec(any::<u8>(), 0..3000), next in prop::collection::vec(any::<u8>(), 0..3000)) {
            let combined = Crc64Nvme::of(&first).combine(Crc64Nvme::of(&next), u64::try_from(next.len()).unwrap());
            prop_assert_eq!(combined, Crc64Nvme::of(&[first, next].concat()));
        }

        #[test]
        fn base64_round_trips(value in any::<u64>(), bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(Crc64Nvme::from_base64(&Crc64Nvme::from_u64(value).base64()).unwrap().as_u64(), value);
            prop_assert_eq!(Sha256::from_base64(&Sha256::from(bytes).base64()).unwrap(), Sha256::from(bytes));
        }
    }
}
