//! The chunks of an object: their positions, and their encryption. The construction is STREAM (Hoang, Reyhanitabar,
//! Rogaway, Vizár 2015) over AES-256-GCM-SIV (RFC 8452): the nonce of a chunk is its number and whether it is the last,
//! so that modified, moved, repeated, missing or truncated chunks are detected.

use std::fmt;

use aead_stream::{NewStream as _, StreamBE32, StreamPrimitive as _};
use aes_gcm_siv::Aes256GcmSiv;
use aes_gcm_siv::aead::KeyInit as _;
use aes_gcm_siv::aead::array::Array;
use bytes::BytesMut;

use super::envelope::DataKey;

/// Plaintext bytes in each chunk except the last.
pub const CHUNK: u64 = 64 * 1024;
/// Bytes that encryption adds to each chunk.
pub const TAG: u64 = 16;

/// The number of chunks of an object of `size` plaintext bytes: an empty object has one empty chunk, whose tag
/// authenticates that it is empty.
const fn chunks(size: u64) -> u64 {
    let count = size.div_ceil(CHUNK);
    if count == 0 { 1 } else { count }
}

/// The encrypted size of an object of `size` plaintext bytes.
pub const fn encrypted_size(size: u64) -> u64 {
    size.saturating_add(chunks(size).saturating_mul(TAG))
}

/// The plaintext size of an object of `encrypted` encrypted bytes; `None` if no object has this size.
pub fn plain_size(encrypted: u64) -> Option<u64> {
    let whole = CHUNK + TAG;
    let rest = match encrypted % whole {
        0 => 0,
        rest => rest.checked_sub(TAG)?,
    };
    let size = encrypted / whole * CHUNK + rest;
    // An empty chunk only occurs in an empty object.
    (encrypted_size(size) == encrypted).then_some(size)
}

/// The encrypted bytes that contain a plaintext range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The chunk that contains the start of the range.
    pub first_chunk: u64,
    /// The first encrypted byte to read.
    pub encrypted_first: u64,
    /// The number of encrypted bytes.
    pub encrypted_length: u64,
    /// Plaintext bytes of the first chunk before the range.
    pub skip: u64,
    /// Plaintext bytes of the range.
    pub take: u64,
}

impl Span {
    /// The span of `length` plaintext bytes from `first` on, at most up to the end of an object of `size` plaintext
    /// bytes. `None` if the range starts past the end.
    pub fn of(size: u64, first: u64, length: u64) -> Option<Self> {
        let take = length.min(size.checked_sub(first)?);
        if take == 0 && size > 0 {
            return None;
        }
        let first_chunk = first / CHUNK;
        let end_chunk = first.saturating_add(take).div_ceil(CHUNK).max(first_chunk + 1);
        let encrypted_first = first_chunk.checked_mul(CHUNK + TAG)?;
        let encrypted_end = end_chunk.checked_mul(CHUNK + TAG)?.min(encrypted_size(size));
        Some(Self {
            first_chunk,
            encrypted_first,
            encrypted_length: encrypted_end.checked_sub(encrypted_first)?,
            skip: first % CHUNK,
            take,
        })
    }
}

/// A chunk that was not encrypted with this key at this position, or was modified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chunk {0} does not decrypt")]
pub struct Unauthentic(pub u64);

/// Encrypts and decrypts the chunks of one object of known size.
///
/// Nonces repeat between objects, which is secure because every object has its own key. If a part is sent twice, its
/// ciphertext is the same both times; and if the source returned wrong data the first time, an observer of both learns
/// only that they differ, because of GCM-SIV.
pub struct Cipher {
    stream: StreamBE32<Aes256GcmSiv>,
    size: u64,
}

impl Cipher {
    /// For an object of `size` plaintext bytes with this key.
    pub fn new(key: &DataKey, size: u64) -> Self {
        let aead = Aes256GcmSiv::new(key.bytes().into());
        Self { stream: StreamBE32::from_aead(aead, &Array::default()), size }
    }

    /// Plaintext size of the object.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Plaintext size of chunk number `index`.
    pub fn chunk_length(&self, index: u64) -> u64 {
        self.size.saturating_sub(index.saturating_mul(CHUNK)).min(CHUNK)
    }

    /// Encrypts a chunk in place: `chunk` grows by [`TAG`] bytes.
    ///
    /// # Errors
    /// No object is large enough to have a chunk with this number (2^32: 256 TiB).
    pub fn encrypt(&self, index: u64, chunk: &mut BytesMut) -> Result<(), Unauthentic> {
        let position = u32::try_from(index).map_err(|_| Unauthentic(index))?;
        self.stream
            .encrypt_in_place(position, self.is_last(index), b"", chunk)
            .map_err(|_| Unauthentic(index))
    }

    /// Decrypts a chunk in place: `chunk` shrinks by [`TAG`] bytes.
    ///
    /// # Errors
    /// The bytes are not authentic.
    pub fn decrypt(&self, index: u64, chunk: &mut BytesMut) -> Result<(), Unauthentic> {
        let position = u32::try_from(index).map_err(|_| Unauthentic(index))?;
        self.stream
            .decrypt_in_place(position, self.is_last(index), b"", chunk)
            .map_err(|_| Unauthentic(index))
    }

    fn is_last(&self, index: u64) -> bool {
        index + 1 == chunks(self.size)
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({} bytes)", self.size)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use aes_gcm_siv::aead::{Aead as _, Payload};
    use proptest::prelude::*;

    use super::*;
    use crate::checksum::Sha256;
    use crate::encryption::Keyring;

    const SIZES: [u64; 8] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 128 * CHUNK, 128 * CHUNK + 7];

    fn cipher(size: u64) -> Cipher {
        let ring = Keyring::parse("k:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", true).unwrap();
        let (_, contents) = ring.new_envelope("key", &Sha256::of(b"")).unwrap().unwrap();
        Cipher::new(&contents.data_key, size)
    }

    #[test]
    fn the_cipher_matches_the_published_vectors() {
        // RFC 8452 appendix C.2, AES-256-GCM-SIV: (plaintext, additional data, result), all with this key and nonce.
        let key = hex::decode("0100000000000000000000000000000000000000000000000000000000000000").unwrap();
        let nonce = hex::decode("030000000000000000000000").unwrap();
        for (plain, more, encrypted) in [
            ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
            ("0100000000000000", "", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
            ("0200000000000000", "01", "1de22967237a813291213f267e3b452f02d01ae33e4ec854"),
        ] {
            let (plain, more) = (hex::decode(plain).unwrap(), hex::decode(more).unwrap());
            let aead = Aes256GcmSiv::new_from_slice(&key).unwrap();
            let nonce = Array::try_from(nonce.as_slice()).unwrap();
            let made = aead.encrypt(&nonce, Payload { msg: &plain, aad: &more }).unwrap();
            assert_eq!(hex::encode(made), encrypted);
        }
    }

    #[test]
    fn the_nonce_of_a_chunk_is_its_number_and_a_flag_for_the_last() {
        // STREAM as published: a prefix, here zeros, the number in 32 bits, and one byte that marks the last chunk.
        let key = [7; 32];
        let aead = Aes256GcmSiv::new(&key.into());
        let cipher = Cipher {
            stream: StreamBE32::from_aead(Aes256GcmSiv::new(&key.into()), &Array::default()),
            size: 300 * CHUNK,
        };
        for (index, nonce) in [
            (0, "000000000000000000000000"),
            (258, "000000000000000000010200"),
            (299, "000000000000000000012b01"),
        ] {
            let nonce = hex::decode(nonce).unwrap();
            let mut chunk = BytesMut::from(&b"some bytes"[..]);
            cipher.encrypt(index, &mut chunk).unwrap();
            let wanted =
                aead.encrypt(&Array::try_from(nonce.as_slice()).unwrap(), &b"some bytes"[..]).unwrap();
            assert_eq!(chunk, wanted, "chunk {index}");
        }
    }

    #[test]
    fn sizes_convert_both_ways() {
        for size in SIZES {
            assert_eq!(plain_size(encrypted_size(size)), Some(size));
        }
        assert_eq!(encrypted_size(0), 16);
        assert_eq!(encrypted_size(CHUNK), CHUNK + 16);
        assert_eq!(encrypted_size(CHUNK + 1), CHUNK + 1 + 32);
        for none in [0, 1, 15, CHUNK + 17, CHUNK + 32] {
            assert_eq!(plain_size(none), None, "{none}");
        }
    }

    #[test]
    fn chunks_decrypt_only_at_their_position() {
        let size = 2 * CHUNK;
        let cipher = cipher(size);
        let mut encrypted = BytesMut::from(vec![9; 65_536].as_slice());
        cipher.encrypt(0, &mut encrypted).unwrap();
        assert_ne!(&encrypted[..65_536], vec![9; 65_536].as_slice());
        let decrypt = |cipher: &Cipher, index: u64, bytes: &[u8]| {
            let mut chunk = BytesMut::from(bytes);
            cipher.decrypt(index, &mut chunk).map(|()| chunk)
        };
        assert_eq!(&decrypt(&cipher, 0, &encrypted).unwrap()[..], vec![9; 65_536].as_slice());
        assert_eq!(decrypt(&cipher, 1, &encrypted), Err(Unauthentic(1)), "moved");
        let shorter = Cipher { stream: cipher.stream, size: CHUNK };
        assert_eq!(decrypt(&shorter, 0, &encrypted), Err(Unauthentic(0)), "treated as the last chunk");
        for at in [0, 1, 65_535, 65_536, 65_551] {
            let mut flipped = encrypted.clone();
            flipped[at] ^= 1;
            assert_eq!(decrypt(&shorter, 0, &flipped), Err(Unauthentic(0)), "byte {at} flipped");
        }
        assert!(decrypt(&shorter, 0, &encrypted[..5]).is_err(), "shorter than a tag");
    }

    #[test]
    fn spans_of_whole_objects_and_empty_ranges() {
        assert_eq!(Span::of(0, 0, 0).map(|span| (span.encrypted_length, span.take)), Some((16, 0)));
        assert_eq!(Span::of(10, 10, 1), None);
        assert_eq!(Span::of(10, 3, 0), None);
        for size in SIZES {
            let span = Span::of(size, 0, u64::MAX).unwrap();
            assert_eq!((span.encrypted_length, span.take, span.skip), (encrypted_size(size), size, 0));
        }
    }

    proptest! {
        #[test]
        fn spans_contain_the_requested_range(size in 1..5 * CHUNK, a in 0..5 * CHUNK, length in 1..5 * CHUNK) {
            let first = a % size;
            let span = Span::of(size, first, length).unwrap();
            prop_assert_eq!(span.take, length.min(size - first));
            prop_assert_eq!(span.first_chunk * CHUNK + span.skip, first);
            prop_assert_eq!(span.encrypted_first, span.first_chunk * (CHUNK + TAG));
            prop_assert!(span.encrypted_first + span.encrypted_length <= encrypted_size(size));
            // Whole chunks, exactly as many as the range needs.
            let plain = plain_size(span.encrypted_length).unwrap();
            prop_assert!(plain >= span.skip + span.take);
            prop_assert!(plain < span.skip + span.take + CHUNK);
        }
    }
}
