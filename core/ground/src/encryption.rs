//! Encryption of objects before they are sent to a store: keys, the encryption envelope stored with an object, and its
//! content in chunks that are encrypted individually, so that any range can be decrypted without the rest. Pure:
//! independent of stores and database. The format is described in `docs/encryption.md`, its design in
//! `docs/adr/0008-encryption.md`.

mod chunks;
mod envelope;
mod key;
mod stream;

pub use chunks::{CHUNK, Cipher, Span, TAG, Unauthentic, encrypted_size, plain_size};
pub use envelope::{Contents, DataKey, EncryptionEnvelope, OpenError};
pub use key::{KEY_BYTES, KeyId, KeyIdError, Keyring, KeyringError, MasterKey};
pub use stream::{Broken, SourceTooLong, decrypt, encrypt};
