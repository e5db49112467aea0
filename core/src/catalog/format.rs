//! The format of a snapshot: lines of JSON, compressed with Zstandard (RFC 8878). First the header, then one line for
//! each row, table by table, then the footer with the expected counts and hash, then the signature of everything.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::db::catalog::Table;

/// The version of the format, both for writing and for reading.
pub(super) const VERSION: u64 = 1;
/// Maximum length of a line. The largest part of a row are an object's block checksums: 10 MiB for the largest object
/// in S3.
pub(super) const MAX_LINE_LENGTH: usize = 16 * 1024 * 1024;

/// Row counts by table.
pub type Counts = BTreeMap<Table, u64>;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Version of the format.
    pub(super) nightferry_catalog: u64,
    pub(super) id: Uuid,
    pub(super) taken_at: DateTime<Utc>,
    /// The latest migration of the database.
    pub(super) schema: String,
    /// The version of the program.
    pub(super) program: String,
    /// Id of the key that signs it.
    pub(super) key_id: String,
    /// Columns of each table.
    pub(super) tables: BTreeMap<Table, Vec<String>>,
}

/// The last line but one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Footer {
    pub(super) rows: Counts,
    /// SHA-256 of all lines before this one, including line breaks.
    pub(super) sha256: String,
}

/// Every line but the first.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    /// The table of a row.
    pub(super) table: Option<Table>,
    /// The columns of a row.
    #[serde(borrow)]
    pub(super) row: Option<&'a RawValue>,
    /// For a replica: the key, size in bytes and SHA-256 of its object.
    pub(super) key: Option<String>,
    pub(super) size: Option<i64>,
    pub(super) sha256: Option<String>,
    pub(super) footer: Option<Footer>,
    pub(super) signature: Option<String>,
}

/// A row as passed on.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Columns, as JSON.
    pub(super) json: String,
    pub(super) of: Option<ReplicaOf>,
}

/// The object of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplicaOf {
    /// Key in every store.
    pub(super) key: String,
    /// Size in bytes.
    pub(super) size: i64,
    /// Hexadecimal.
    pub(super) sha256: String,
}
