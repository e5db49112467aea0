//! The operator's keys: each encrypts the keys of many objects. One is active and encrypts new objects; all of them
//! decrypt.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, SecretBox};

/// Size of a key (AES-256).
pub const KEY_BYTES: usize = 32;

/// A key id: `[a-z0-9][a-z0-9._-]{0,31}`. Not secret: it is stored with every object encrypted by the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

/// An invalid key id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key id is 1 to 32 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit, such as \
        \"2026-11\""
)]
pub struct KeyIdError;

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = text.starts_with(plain)
            && text.len() <= 32
            && text.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(KeyIdError) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key with its id. Not printable.
pub struct MasterKey {
    id: KeyId,
    key: SecretBox<[u8; KEY_BYTES]>,
}

impl MasterKey {
    /// Generates a key with the random number generator of the operating system.
    ///
    /// # Errors
    /// The random number generator failed.
    pub fn generate(id: KeyId) -> Result<Self, rand::rand_core::OsError> {
        use rand::TryRngCore as _;
        let mut key = SecretBox::new(Box::new([0; KEY_BYTES]));
        rand::rngs::OsRng.try_fill_bytes(secrecy::ExposeSecretMut::expose_secret_mut(&mut key))?;
        Ok(Self { id, key })
    }

    /// Name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The line of the key in a key file: `ID:KEY`. Contains the secret.
    pub fn expose_line(&self) -> String {
        format!("{}:{}", self.id, BASE64.encode(self.key.expose_secret()))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.key.expose_secret()
    }

    /// Parses an entry `ID:KEY`. The error is a predicate and contains nothing of the key.
    fn parse(entry: &str) -> Result<Self, String> {
        let (id, key) = entry.split_once(':').ok_or("is not of the form ID:KEY")?;
        let id: KeyId =
            id.trim().parse().map_err(|error: KeyIdError| format!("has an invalid id: {error}"))?;
        let bytes = BASE64.decode(key.trim()).map_err(|_| format!("(\"{id}\") is not base64"))?;
        let length = bytes.len();
        let key: [u8; KEY_BYTES] =
            bytes.try_into().map_err(|_| format!("(\"{id}\") has {length} bytes instead of {KEY_BYTES}"))?;
        if key == [0; KEY_BYTES] {
            return Err(format!("(\"{id}\") is all zeros, which is not a key"));
        }
        Ok(Self { id, key: SecretBox::new(Box::new(key)) })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// The errors in a text of keys, each as a predicate about "the keys". Contains nothing of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct KeyringError(pub Vec<String>);

/// The keys of a store. The first one is the active one, if the store encrypts.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<MasterKey>,
    encrypts: bool,
}

impl Keyring {
    /// Parses entries `ID:KEY`, one per line or separated by commas; lines starting with `#` are comments. `encrypts`:
    /// whether new objects are encrypted, or existing ones only decrypted.
    ///
    /// # Errors
    /// All errors, not only the first one.
    pub fn parse(text: &str, encrypts: bool) -> Result<Self, KeyringError> {
        let mut keys: Vec<MasterKey> = Vec::new();
        let mut wrong = Vec::new();
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let entries = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
        for (number, entry) in (1..).zip(entries) {
            match MasterKey::parse(entry) {
                Err(problem) => wrong.push(format!("entry {number} {problem}")),
                Ok(key) if keys.iter().any(|known| known.id == key.id) => {
                    wrong.push(format!("two keys have the id \"{}\"", key.id));
                }
                Ok(key) if keys.iter().any(|known| known.bytes() == key.bytes()) => {
                    wrong.push(format!("entry {number} (\"{}\") is the same key as another entry", key.id));
                }
                Ok(key) => keys.push(key),
            }
        }
        if keys.is_empty() && wrong.is_empty() {
            wrong.push("there is no key".to_owned());
        }
        if wrong.is_empty() { Ok(Self { keys, encrypts }) } else { Err(KeyringError(wrong)) }
    }

    /// The key that encrypts new objects; `None` if encryption is off.
    pub fn active(&self) -> Option<&MasterKey> {
        self.keys.first().filter(|_| self.encrypts)
    }

    /// The ids of all keys, the active one first.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().map(MasterKey::id)
    }

    pub(super) fn get(&self, id: &str) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id.as_str() == id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn id(text: &str) -> KeyId {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_written_and_read() {
        let (new, old) = (MasterKey::generate(id("new")).unwrap(), MasterKey::generate(id("old")).unwrap());
        assert_ne!(new.bytes(), old.bytes());
        for text in [
            format!("# comment, with a comma\n{}\n\n  {}  \n", new.expose_line(), old.expose_line()),
            format!("{},{}", new.expose_line(), old.expose_line()),
        ] {
            let ring = Keyring::parse(&text, true).unwrap();
            assert_eq!(ring.ids().map(KeyId::as_str).collect::<Vec<_>>(), ["new", "old"]);
            assert_eq!(ring.active().unwrap().bytes(), new.bytes());
            assert_eq!(ring.get("old").unwrap().bytes(), old.bytes());
            assert!(Keyring::parse(&text, false).unwrap().active().is_none());
        }
    }

    #[test]
    fn all_key_errors_are_reported_at_once_without_revealing_keys() {
        let short = BASE64.encode([7; 31]);
        let key = MasterKey::generate(id("a")).unwrap();
        let twin = key.expose_line().replacen("a:", "b:", 1);
        let zeros = BASE64.encode([0; 32]);
        let line = key.expose_line();
        let text = format!("{line}\nshort:{short}\nnonsense\nÄ:{zeros}\nx:***\n{line}\n{twin}\nzero:{zeros}");
        let KeyringError(wrong) = Keyring::parse(&text, true).unwrap_err();
        assert_eq!(
            wrong,
            [
                "entry 2 (\"short\") has 31 bytes instead of 32".to_owned(),
                "entry 3 is not of the form ID:KEY".to_owned(),
                format!("entry 4 has an invalid id: {KeyIdError}"),
                "entry 5 (\"x\") is not base64".to_owned(),
                "two keys have the id \"a\"".to_owned(),
                "entry 7 (\"b\") is the same key as another entry".to_owned(),
                "entry 8 (\"zero\") is all zeros, which is not a key".to_owned(),
            ]
        );
        assert_eq!(Keyring::parse(" \n# nothing\n", true).unwrap_err().0, ["there is no key"]);
        assert_eq!(format!("{key:?}"), "MasterKey(a)");
    }

    #[test]
    fn ids_are_short_and_plain() {
        for good in ["a", "2026-11", "k.1_x", &"a".repeat(32)] {
            assert_eq!(id(good).as_str(), good);
        }
        for wrong in ["", "A", "-a", ".a", "a b", "ä", "a:b", &"a".repeat(33)] {
            assert!(wrong.parse::<KeyId>().is_err(), "{wrong:?}");
        }
    }
}
