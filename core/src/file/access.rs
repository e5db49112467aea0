//! Read times of files: collected in memory and written in batches at intervals. No request waits for this, and a crash
//! only loses some read times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::Files;
use crate::context::Context;
use crate::db::file_changes::{self, Access};
use crate::error::Result;
use crate::ids::{FileId, ObjectId};
use crate::store::StoreRole;
use crate::tiering::fetch;

/// Maximum number of collected entries; further reads are not recorded until the next write.
const MAX_ENTRIES: usize = 10_000;
/// Interval between writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// The entries of one process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct AccessLog(Arc<Mutex<HashMap<(FileId, ObjectId), Note>>>);

#[derive(Debug, Clone, Copy)]
struct Note {
    at: DateTime<Utc>,
    /// Whether it was read from the cloud.
    afar: bool,
}

impl AccessLog {
    /// Records that a version of a file is read at `at`; `afar` if not from a local store.
    pub fn note(&self, file: FileId, object: ObjectId, at: DateTime<Utc>, afar: bool) {
        let mut notes = self.0.lock();
        let key = (file, object);
        if notes.len() < MAX_ENTRIES || notes.contains_key(&key) {
            let note = notes.entry(key).or_insert(Note { at, afar });
            *note = Note { at: note.at.max(at), afar: note.afar || afar };
        }
    }
}

/// Writes the entries collected since the last write.
///
/// # Errors
/// Any database error; then the entries are kept for the next write.
pub async fn flush(files: &Files) -> Result<()> {
    let notes = std::mem::take(&mut *files.accesses.0.lock());
    if notes.is_empty() {
        return Ok(());
    }
    let written = write(&files.context, &notes).await;
    if written.is_err() {
        for ((file, object), note) in notes {
            files.accesses.note(file, object, note.at, note.afar);
        }
    }
    written
}

async fn write(context: &Context, notes: &HashMap<(FileId, ObjectId), Note>) -> Result<()> {
    let locals = context.stores.names_with(StoreRole::Local);
    let accesses: Vec<Access> =
        notes.iter().map(|(&(file, object), note)| Access { file, object, at: note.at }).collect();
    file_changes::record_accesses(&mut *context.db.conn().await?, &locals, &accesses).await?;
    let from_afar = notes.iter().filter(|(_, note)| note.afar).map(|(&(_, object), _)| object);
    let from_afar: Vec<ObjectId> = from_afar.collect();
    if context.config.tiering.cache_on_read && !from_afar.is_empty() {
        fetch::after_reads(context, &from_afar).await?;
    }
    Ok(())
}

/// Writes the entries every few seconds until `shutdown`, and a last time then.
pub async fn keep_flushing(files: Files, shutdown: CancellationToken) {
    loop {
        let over = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(WRITE_INTERVAL) => false,
        };
        if let Err(error) = flush(&files).await {
            tracing::warn!(%error, "cannot record read times; retrying");
        }
        if over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_times_are_bounded_and_keep_the_latest_of_each_file() {
        let log = AccessLog::default();
        let (file, object, now) = (FileId::new(), ObjectId::new(), Utc::now());
        log.note(file, object, now, true);
        log.note(file, object, now - chrono::Duration::seconds(1), false);
        for _ in 0..MAX_ENTRIES + 5 {
            log.note(FileId::new(), object, now, false);
        }
        let notes = log.0.lock();
        assert_eq!(notes.len(), MAX_ENTRIES);
        assert_eq!((notes[&(file, object)].at, notes[&(file, object)].afar), (now, true));
    }
}
