//! Encodes lines to compressed bytes, hashing and signing them.

use std::collections::BTreeMap;
use std::io::Write;

use ring::hmac;
use serde::Serialize;
use serde_json::value::RawValue;
use zstd::stream::write::Encoder as Zstd;

use super::format::{Counts, Footer, Header};
use super::keys::{Keys, SnapshotCipher};
use crate::checksum::Sha256Hasher;
use crate::db::catalog::Table;
use crate::error::{Error, Result};

/// The default level of Zstandard: fast, with a compression ratio of five.
const LEVEL: i32 = 3;

/// Compresses, hashes and signs the lines of a snapshot.
pub(super) struct Encoder {
    zstd: Zstd<'static, Vec<u8>>,
    sha256: Sha256Hasher,
    mac: hmac::Context,
    cipher: SnapshotCipher,
    rows: Counts,
}

fn cannot(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("cannot encode a snapshot of the catalogue: {error}"))
}

impl Encoder {
    /// Starts with the header.
    pub(super) fn new(keys: &Keys, header: &Header) -> Result<Self> {
        let mut zstd = Zstd::new(Vec::new(), LEVEL).map_err(cannot)?;
        zstd.include_checksum(true).map_err(cannot)?;
        let mut encoder = Self {
            zstd,
            sha256: Sha256Hasher::new(),
            mac: keys.signature(),
            cipher: keys.cipher(header.id)?,
            rows: Table::ALL.into_iter().map(|table| (table, 0)).collect(),
        };
        encoder.json(header)?;
        Ok(encoder)
    }

    /// Appends rows, each a line as returned by the database.
    pub(super) fn rows(&mut self, table: Table, lines: &[String]) -> Result<()> {
        for line in lines {
            if table == Table::Users {
                let encrypted = self.encrypt_hash(line)?;
                self.line(&encrypted)?;
            } else {
                self.line(line)?;
            }
        }
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        let rows = self.rows.entry(table).or_default();
        *rows = rows.saturating_add(count);
        Ok(())
    }

    /// Compressed data that has not been taken yet.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.zstd.get_mut())
    }

    /// Ends with footer and signature. Returns the last bytes and the row counts.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Counts)> {
        let sha256 = std::mem::take(&mut self.sha256).finish().to_string();
        let footer = Footer { rows: self.rows.clone(), sha256 };
        self.json(&BTreeMap::from([("footer", &footer)]))?;
        let signature = hex::encode(self.mac.clone().sign());
        self.json(&BTreeMap::from([("signature", signature)]))?;
        Ok((self.zstd.finish().map_err(cannot)?, footer.rows))
    }

    fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).map_err(cannot)?;
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        for bytes in [line.as_bytes(), b"\n"] {
            self.sha256.update(bytes);
            self.mac.update(bytes);
            self.zstd.write_all(bytes).map_err(cannot)?;
        }
        Ok(())
    }

    /// The line of a user with the password hash encrypted.
    fn encrypt_hash(&self, line: &str) -> Result<String> {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct User {
            table: Box<RawValue>,
            row: serde_json::Map<String, serde_json::Value>,
        }
        let mut user: User = serde_json::from_str(line).map_err(cannot)?;
        let id = user.row.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
        let hash = user.row.get("password_hash").and_then(|hash| hash.as_str()).unwrap_or_default();
        let encrypted = self.cipher.encrypt(hash, &id)?;
        user.row.insert("password_hash".to_owned(), encrypted.into());
        serde_json::to_string(&user).map_err(cannot)
    }
}
