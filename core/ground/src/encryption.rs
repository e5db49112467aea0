//! Encryption of objects before they leave for a store: keys, the seal that is kept beside an object, and its bytes in
//! chunks that are sealed one by one, so that any range can be opened without the rest. Pure: knows neither stores nor
//! database. The format is described in `docs/encryption.md`, its choice in `docs/adr/0008-encryption.md`.

mod chunks;
mod key;
mod seal;
mod stream;

pub use chunks::{CHUNK, Cipher, Span, TAG, Unauthentic, plain_size, sealed_size};
pub use key::{KEY_BYTES, KeyId, KeyIdError, Keyring, KeyringError, MasterKey};
pub use seal::{Contents, DataKey, OpenError, Seal};
pub use stream::{Broken, SourceTooLong, open, seal};
