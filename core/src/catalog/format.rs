//! What a snapshot consists of: lines of JSON, compressed with Zstandard (RFC 8878). The first is the header, then comes
//! one line for each row, table after table, then the footer with what there must be, then the signature over all of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::db::catalog::Table;

/// The format that is written, and the only one that is read.
pub(super) const VERSION: u64 = 1;
/// Longest line. A row's longest part is an object's checksums of blocks: 10 MiB for the largest object of S3.
pub(super) const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// Rows by table.
pub type Counts = BTreeMap<Table, u64>;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Version of the format.
    pub(super) nightferry_catalog: u64,
    /// Id of this snapshot.
    pub(super) id: Uuid,
    /// When it was taken.
    pub(super) taken_at: DateTime<Utc>,
    /// The latest migration of the database.
    pub(super) schema: String,
    /// Version of the program.
    pub(super) program: String,
    /// Id of the key that signs it.
    pub(super) key_id: String,
    /// Columns of each table.
    pub(super) tables: BTreeMap<Table, Vec<String>>,
}

/// The last line but one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    /// Rows of each table.
    pub(super) rows: Counts,
    /// SHA-256 of every line before this one, line breaks included.
    pub(super) sha256: String,
}

/// Every line but the first.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    /// Of a row.
    pub(super) table: Option<Table>,
    /// Of a row: its columns.
    #[serde(borrow)]
    pub(super) row: Option<&'a RawValue>,
    /// Of a replica: its object's key, size in bytes and SHA-256.
    pub(super) key: Option<String>,
    pub(super) size: Option<i64>,
    pub(super) sha256: Option<String>,
    /// The footer.
    pub(super) footer: Option<Footer>,
    /// The signature.
    pub(super) signature: Option<String>,
}

/// The footer as a line.
#[derive(Debug, Serialize)]
pub(super) struct FooterLine<'a> {
    pub(super) footer: &'a Footer,
}

/// The signature as a line.
#[derive(Debug, Serialize)]
pub(super) struct SignatureLine {
    pub(super) signature: String,
}

/// A row as it is handed on.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Its columns, as JSON.
    pub(super) json: String,
    /// Of a replica.
    pub(super) of: Option<ReplicaOf>,
}

/// What a replica is a copy of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplicaOf {
    /// Key in every store.
    pub(super) key: String,
    /// Bytes.
    pub(super) size: i64,
    /// Hexadecimal.
    pub(super) sha256: String,
}
