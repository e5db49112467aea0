//! Decodes a stored snapshot: decompresses it with bounded memory, and checks its signature, hash and counts. Rows are
//! passed on before the checks are complete: the receiver must be able to discard them.

use bytes::Bytes;
use futures_util::StreamExt;
use ring::hmac;
use tokio::sync::mpsc;
use uuid::Uuid;
use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

use super::error::{CatalogError, Refusal, broke_off};
use super::format::{Counts, Footer, Header, Line, MAX_LINE_LENGTH, ReplicaOf, Row, VERSION};
use super::keys::Keys;
use crate::checksum::Sha256Hasher;
use crate::config::Config;
use crate::db::catalog::{PAGE, Table};
use crate::retry::{self, Retry, RetryPolicy};
use crate::store::{ByteRange, GetObject, ObjectKey, Store, StoreError, Verdict};

/// Bytes to decompress at once.
const OUTPUT: usize = 128 * 1024;
/// Maximum window size of Zstandard, 8 MiB; our own encoder uses 2.
const WINDOW_LOG: u32 = 23;
/// Rows are passed on in batches of this many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// How often an interrupted transfer is continued.
const MAX_RESUMED: u32 = 10;
/// Maximum number of queued chunks and batches.
const MAX_QUEUED: usize = 4;

#[derive(Debug)]
pub(super) enum Item {
    /// The first item.
    Header(Box<Header>),
    /// Rows of one table, in the order of the snapshot.
    Rows(Table, Vec<Row>),
    /// The last item: everything is authentic. Contains the row counts by table.
    End(Counts),
}

/// A snapshot being read.
pub(super) struct Reading {
    items: mpsc::Receiver<Result<Item, CatalogError>>,
}

impl Reading {
    /// Starts to read the snapshot `key`.
    pub(super) async fn open(config: &Config, store: &Store, key: &ObjectKey) -> Result<Self, CatalogError> {
        let decoder = Decoder::new(Keys::of(config)?, key)?;
        let opening = || store.get(key, None);
        let object = match retry::retry(&RetryPolicy::default(), opening, StoreError::retry).await {
            Err(error) if error.verdict() == Verdict::SourceMissing => {
                return Err(CatalogError::NoSuchSnapshot(key.to_string()));
            }
            got => got?,
        };
        let (chunks, incoming) = mpsc::channel::<Bytes>(MAX_QUEUED);
        let (items, receiver) = mpsc::channel(MAX_QUEUED);
        let failing = items.clone();
        let (store, object_key) = (store.clone(), key.clone());
        let key = key.to_string();
        // Decompression and hashing do not belong on an async thread.
        let task = tokio::task::spawn_blocking(move || decoder.run(incoming, &items));
        tokio::spawn(async move {
            let failure = pass_on(&store, &object_key, object, &chunks).await.err();
            let broken = failure.is_some();
            if let Some(failure) = failure {
                // Without a receiver, the result is not needed.
                let _ = failing.send(Err(failure.into())).await;
            }
            drop(chunks);
            let ended = task.await.map_err(|error| CatalogError::from(broke_off(&error)));
            let ended = ended.and_then(|ended| ended.map_err(|why| CatalogError::Refused { key, why }));
            // Data truncated by the store is not an error of the snapshot.
            if let Err(error) = ended
                && !broken
            {
                let _ = failing.send(Err(error)).await;
            }
        });
        Ok(Self { items: receiver })
    }

    /// The next item. Nothing follows [`Item::End`] or an error.
    pub(super) async fn next(&mut self) -> Result<Item, CatalogError> {
        let broken = || crate::error::Error::Internal("reading a snapshot ended unexpectedly".to_owned());
        self.items.recv().await.unwrap_or_else(|| Err(broken().into()))
    }
}

/// Passes on the bytes of a snapshot. A transfer that breaks off continues where it was.
async fn pass_on(
    store: &Store,
    key: &ObjectKey,
    object: GetObject,
    chunks: &mpsc::Sender<Bytes>,
) -> Result<(), StoreError> {
    let (total, mut passed, mut resumed) = (object.total_size, 0_u64, 0);
    let mut body = object.body;
    loop {
        let error = match body.next().await {
            None => return Ok(()),
            Some(Ok(chunk)) => {
                passed = passed.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
                // The decoder has finished or failed.
                if chunks.send(chunk).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Some(Err(error)) => error,
        };
        if resumed == MAX_RESUMED || passed >= total || error.retry() == Retry::Stop {
            return Err(error);
        }
        resumed += 1;
        let rest = || store.get(key, ByteRange::of_length(passed, total - passed));
        body = retry::retry(&RetryPolicy::default(), rest, StoreError::retry).await?.body;
    }
}

enum Place {
    Start,
    Rows,
    Footer,
    Over,
}

struct Decoder {
    keys: Keys,
    /// The values in the object key: a snapshot under the key of another one is an old one passed off as new.
    expected: (chrono::DateTime<chrono::Utc>, Uuid),
    sha256: Sha256Hasher,
    mac: hmac::Context,
    place: Place,
    rows: Counts,
    batch: (Option<Table>, Vec<Row>, usize),
}

type Items = mpsc::Sender<Result<Item, CatalogError>>;

/// Why decoding stops early.
enum Halt {
    Refused(Refusal),
    /// The receiver was dropped.
    Unwanted,
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn damaged(error: impl std::fmt::Display) -> Halt {
    Halt::Refused(Refusal::Damaged(error.to_string()))
}

impl Decoder {
    fn new(keys: Keys, key: &ObjectKey) -> Result<Self, CatalogError> {
        let Ok((_, taken_at, id)) = ObjectKey::parse_snapshot(key.as_str()) else {
            return Err(CatalogError::NoSuchSnapshot(key.to_string()));
        };
        Ok(Self {
            mac: keys.signature(),
            keys,
            expected: (taken_at, id),
            sha256: Sha256Hasher::new(),
            place: Place::Start,
            rows: Table::ALL.into_iter().map(|table| (table, 0)).collect(),
            batch: (None, Vec::new(), 0),
        })
    }

    fn run(mut self, incoming: mpsc::Receiver<Bytes>, items: &Items) -> Result<(), Refusal> {
        match self.decode(incoming, items) {
            Ok(()) | Err(Halt::Unwanted) => Ok(()),
            Err(Halt::Refused(why)) => Err(why),
        }
    }

    fn decode(&mut self, mut incoming: mpsc::Receiver<Bytes>, items: &Items) -> Result<(), Halt> {
        let mut zstd = Zstd::new().map_err(damaged)?;
        zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(damaged)?;
        let mut output = vec![0; OUTPUT];
        let mut pending: Vec<u8> = Vec::new();
        let mut ended = false;
        while let Some(chunk) = incoming.blocking_recv() {
            let mut input = InBuffer::around(chunk.as_ref());
            loop {
                if ended && input.pos < chunk.len() {
                    return Err(damaged("data follows its end"));
                }
                let mut out = OutBuffer::around(output.as_mut_slice());
                let hint = if ended { 0 } else { zstd.run(&mut input, &mut out).map_err(damaged)? };
                ended = ended || hint == 0;
                let made = out.pos();
                self.lines(&mut pending, output.get(..made).unwrap_or_default(), items)?;
                // More output may follow a full buffer.
                if input.pos >= chunk.len() && made < OUTPUT {
                    break;
                }
            }
        }
        if !ended {
            return Err(Refusal::Truncated.into());
        }
        match self.place {
            Place::Over if pending.is_empty() => send(items, Item::End(std::mem::take(&mut self.rows))),
            _ => Err(Refusal::Truncated.into()),
        }
    }

    /// Splits the decompressed data into lines.
    fn lines(&mut self, pending: &mut Vec<u8>, mut bytes: &[u8], items: &Items) -> Result<(), Halt> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, tail) = bytes.split_at(end + 1);
            pending.extend_from_slice(head);
            let line = std::mem::take(pending);
            self.line(&line, items)?;
            *pending = line;
            pending.clear();
            bytes = tail;
        }
        if pending.len() + bytes.len() > MAX_LINE_LENGTH {
            return Err(damaged("a line of it is too long"));
        }
        pending.extend_from_slice(bytes);
        Ok(())
    }

    /// One line with its line break.
    fn line(&mut self, line: &[u8], items: &Items) -> Result<(), Halt> {
        let text = std::str::from_utf8(line).map_err(damaged)?;
        match self.place {
            Place::Start => self.header(text, items)?,
            Place::Rows => {
                let parsed: Line<'_> = serde_json::from_str(text).map_err(damaged)?;
                if let Some(footer) = &parsed.footer {
                    self.hand_on(items)?;
                    self.footer(footer)?;
                } else {
                    self.row(parsed, items)?;
                }
            }
            Place::Footer => {
                let parsed: Line<'_> = serde_json::from_str(text).map_err(damaged)?;
                return self.signature(parsed.signature.as_deref());
            }
            Place::Over => return Err(damaged("data follows its signature")),
        }
        self.sha256.update(line);
        self.mac.update(line);
        Ok(())
    }

    fn header(&mut self, text: &str, items: &Items) -> Result<(), Halt> {
        #[derive(serde::Deserialize)]
        struct Version {
            nightferry_catalog: u64,
        }
        // Another version may have another header.
        let version: Version = serde_json::from_str(text).map_err(damaged)?;
        if version.nightferry_catalog != VERSION {
            return Err(Refusal::UnknownVersion(version.nightferry_catalog).into());
        }
        let header: Header = serde_json::from_str(text).map_err(damaged)?;
        if header.key_id != self.keys.id() {
            let ours = self.keys.id().to_owned();
            return Err(Refusal::ForeignKey { theirs: header.key_id, ours }.into());
        }
        if (header.taken_at, header.id) != self.expected {
            let what = "it is stored under the name of another snapshot";
            return Err(Refusal::Contradiction(what.to_owned()).into());
        }
        self.place = Place::Rows;
        send(items, Item::Header(Box::new(header)))
    }

    fn row(&mut self, line: Line<'_>, items: &Items) -> Result<(), Halt> {
        let (Some(table), Some(row)) = (line.table, line.row) else {
            return Err(damaged("a line of it is neither a row nor the footer"));
        };
        let of = match (line.key, line.size, line.sha256) {
            (Some(key), Some(size), Some(sha256)) => Some(ReplicaOf { key, size, sha256 }),
            _ => None,
        };
        if self.batch.0 != Some(table) || self.batch.2 >= BATCH_BYTES || self.batch.1.len() >= PAGE {
            self.hand_on(items)?;
        }
        *self.rows.entry(table).or_default() += 1;
        let json = row.get().to_owned();
        self.batch.0 = Some(table);
        self.batch.2 += json.len();
        self.batch.1.push(Row { json, of });
        Ok(())
    }

    fn hand_on(&mut self, items: &Items) -> Result<(), Halt> {
        let (table, rows, _) = std::mem::take(&mut self.batch);
        match table {
            Some(table) => send(items, Item::Rows(table, rows)),
            None => Ok(()),
        }
    }

    fn footer(&mut self, footer: &Footer) -> Result<(), Halt> {
        let sha256 = std::mem::take(&mut self.sha256).finish().to_string();
        if footer.sha256 != sha256 {
            return Err(Refusal::BadSignature.into());
        }
        if footer.rows != self.rows {
            let what = format!("it announces {:?} rows and has {:?}", footer.rows, self.rows);
            return Err(Refusal::Contradiction(what).into());
        }
        self.place = Place::Footer;
        Ok(())
    }

    fn signature(&mut self, signature: Option<&str>) -> Result<(), Halt> {
        let given = signature.and_then(|signature| hex::decode(signature).ok()).unwrap_or_default();
        if !self.keys.is_same(&self.mac.clone().sign(), &given) {
            return Err(Refusal::BadSignature.into());
        }
        self.place = Place::Over;
        Ok(())
    }
}

fn send(items: &Items, item: Item) -> Result<(), Halt> {
    items.blocking_send(Ok(item)).map_err(|_| Halt::Unwanted)
}
