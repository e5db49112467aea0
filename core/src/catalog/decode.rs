//! A stored snapshot back to rows: decompressed with bounded memory, and believed only when its signature, its hash and
//! its counts are right. Rows are handed on before that is known: whoever takes them must be able to take them back.

use bytes::Bytes;
use futures_util::StreamExt;
use ring::hmac;
use tokio::sync::mpsc;
use uuid::Uuid;
use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

use super::error::{CatalogError, Refusal, broke_off};
use super::format::{Counts, Footer, Header, LONGEST_LINE, Line, ReplicaOf, Row, VERSION};
use super::keys::Keys;
use crate::checksum::Sha256Hasher;
use crate::config::Config;
use crate::db::catalog::{PAGE, Table};
use crate::store::{ObjectKey, Store, Verdict};

/// What is decompressed at once.
const OUTPUT: usize = 128 * 1024;
/// Zstandard must not ask for more than 8 MiB to look back at; our own encoder asks for 2.
const WINDOW_LOG: u32 = 23;
/// Rows are handed on when they have this many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// Chunks and batches that wait.
const WAITING: usize = 4;

/// What comes out.
#[derive(Debug)]
pub(super) enum Item {
    /// First.
    Header(Box<Header>),
    /// Rows of one table, in the snapshot's order.
    Rows(Table, Vec<Row>),
    /// Last: everything is as it was signed. Rows by table.
    End(Counts),
}

/// A snapshot being read.
pub(super) struct Reading {
    items: mpsc::Receiver<Result<Item, CatalogError>>,
}

impl Reading {
    /// Begins to read the snapshot `key`.
    pub(super) async fn open(config: &Config, store: &Store, key: &ObjectKey) -> Result<Self, CatalogError> {
        let decoder = Decoder::new(Keys::of(config)?, key)?;
        let object = match store.get(key, None).await {
            Err(error) if error.verdict() == Verdict::SourceMissing => {
                return Err(CatalogError::NoSuchSnapshot(key.to_string()));
            }
            got => got?,
        };
        let (chunks, incoming) = mpsc::channel::<Bytes>(WAITING);
        let (items, receiver) = mpsc::channel(WAITING);
        let failing = items.clone();
        let key = key.to_string();
        // Decompressing and hashing are no work for an async thread.
        let task = tokio::task::spawn_blocking(move || decoder.run(incoming, &items));
        tokio::spawn(async move {
            let mut body = object.body;
            let mut failure = None;
            while let Some(chunk) = body.next().await {
                match chunk {
                    // When whoever decodes has seen enough, so have we.
                    Ok(chunk) => {
                        if chunks.send(chunk).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        failure = Some(CatalogError::from(error));
                        break;
                    }
                }
            }
            let broken = failure.is_some();
            if let Some(failure) = failure {
                // Nobody listens any more: then nobody wants to know.
                let _ = failing.send(Err(failure)).await;
            }
            drop(chunks);
            let ended = task.await.map_err(|error| CatalogError::from(broke_off(&error)));
            let ended = ended.and_then(|ended| ended.map_err(|why| refused(&key, why)));
            // What was cut off by the store is not the snapshot's fault.
            if let Err(error) = ended
                && !broken
            {
                let _ = failing.send(Err(error)).await;
            }
        });
        Ok(Self { items: receiver })
    }

    /// What comes next. Nothing follows [`Item::End`] or an error.
    pub(super) async fn next(&mut self) -> Result<Item, CatalogError> {
        let broken = || crate::error::Error::Internal("a snapshot's reading ended without an end".to_owned());
        self.items.recv().await.unwrap_or_else(|| Err(broken().into()))
    }
}

fn refused(key: &str, why: Refusal) -> CatalogError {
    CatalogError::Refused { key: key.to_owned(), why }
}

/// Where the reading is.
enum Place {
    Start,
    Rows,
    Footer,
    Over,
}

struct Decoder {
    keys: Keys,
    /// What the key says: a snapshot under another one's name is an old one that shall pass for a new one.
    expected: (chrono::DateTime<chrono::Utc>, Uuid),
    sha256: Sha256Hasher,
    mac: hmac::Context,
    place: Place,
    rows: Counts,
    batch: (Option<Table>, Vec<Row>, usize),
}

type Items = mpsc::Sender<Result<Item, CatalogError>>;

/// Why decoding ends before its end.
enum Halt {
    Refused(Refusal),
    /// Nobody takes what comes out.
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
                    return Err(damaged("something follows its end"));
                }
                let mut out = OutBuffer::around(output.as_mut_slice());
                let hint = if ended { 0 } else { zstd.run(&mut input, &mut out).map_err(damaged)? };
                ended = ended || hint == 0;
                let made = out.pos();
                self.lines(&mut pending, output.get(..made).unwrap_or_default(), items)?;
                // A full buffer may have more behind it.
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

    /// Splits what was decompressed into lines.
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
        if pending.len() + bytes.len() > LONGEST_LINE {
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
            Place::Over => return Err(damaged("something follows its signature")),
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
            let what = "it lies under the name of another snapshot";
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
            let what = format!("it says {:?} rows and has {:?}", footer.rows, self.rows);
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
