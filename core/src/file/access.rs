//! When files are read: noted in memory while they are, written now and then, many at once. Nothing here is waited for
//! by a request, and what a crash takes with it is only a note.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::Files;
use crate::context::Context;
use crate::db::file_changes::{self, Access};
use crate::error::Result;
use crate::ids::{FileId, ObjectId};
use crate::store::StoreRole;
use crate::tiering::fetch;

/// Notes kept at most; what comes beyond that until they are written is not noted.
const MOST: usize = 10_000;
/// Between two writings.
const EVERY: Duration = Duration::from_secs(5);

/// The notes of one process. Clones are the same notes.
#[derive(Debug, Clone, Default)]
pub struct AccessLog(Arc<Mutex<HashMap<(FileId, ObjectId), Note>>>);

#[derive(Debug, Clone, Copy)]
struct Note {
    at: DateTime<Utc>,
    /// Whether it was read from afar.
    afar: bool,
}

impl AccessLog {
    /// Notes that a version of a file is read at `at`; `afar` when not from the local store.
    pub fn note(&self, file: FileId, object: ObjectId, at: DateTime<Utc>, afar: bool) {
        let mut notes = self.notes();
        let full = notes.len() >= MOST;
        match notes.entry((file, object)) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                *known = Note { at: known.at.max(at), afar: known.afar || afar };
            }
            Entry::Vacant(free) if !full => {
                free.insert(Note { at, afar });
            }
            Entry::Vacant(_) => {}
        }
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<(FileId, ObjectId), Note>> {
        self.0.lock()
    }
}

/// Writes what was noted since the last time.
///
/// # Errors
/// Whatever the database meets; then the notes are kept for the next time.
pub async fn flush(files: &Files) -> Result<()> {
    let notes = std::mem::take(&mut *files.accesses.notes());
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
    {
        let mut conn = context.db.conn().await?;
        file_changes::note_accesses(&mut conn, &locals, &accesses).await?;
    }
    let from_afar = notes.iter().filter(|(_, note)| note.afar).map(|(&(_, object), _)| object);
    let from_afar: Vec<ObjectId> = from_afar.collect();
    if context.config.tiering.cache_on_read && !from_afar.is_empty() {
        fetch::after_reads(context, &from_afar).await?;
    }
    Ok(())
}

/// Writes the notes every few seconds until `shutdown`, and once more then.
pub async fn keep_flushing(files: Files, shutdown: CancellationToken) {
    loop {
        let over = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        if let Err(error) = flush(&files).await {
            tracing::warn!(%error, "when files were read could not be noted, trying again");
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
    fn notes_are_bounded_and_keep_the_latest_of_each_file() {
        let log = AccessLog::default();
        let (file, object, now) = (FileId::new(), ObjectId::new(), Utc::now());
        log.note(file, object, now, true);
        log.note(file, object, now - chrono::Duration::seconds(1), false);
        for _ in 0..MOST + 5 {
            log.note(FileId::new(), object, now, false);
        }
        let notes = log.notes();
        assert_eq!(notes.len(), MOST);
        assert_eq!((notes[&(file, object)].at, notes[&(file, object)].afar), (now, true));
    }
}
