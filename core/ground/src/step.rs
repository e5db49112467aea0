//! Named steps of the engine, at which tests can observe, pause or kill it. They exist only in builds with debug
//! assertions, and only for tasks that a test has wrapped; a release build contains no code for them.

/// A point between two operations that a crash may separate. No transaction and no connection is held at any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// An upload is recorded, and nothing has been sent.
    UploadBegun,
    /// An upload is stored and verified, and not acknowledged.
    UploadStored,
    /// Copies are claimed, and none has started.
    Claimed,
    /// A small source has been read, and nothing has been sent.
    CopyRead,
    /// The destination has acknowledged a copy, which has not been verified.
    CopySent,
    /// The destination has created a multipart upload, which has not been recorded.
    PartsBegun,
    /// The store has the part, and it has not been recorded.
    PartSent,
    /// The lease is still held, and the multipart upload has not been completed.
    PartsSent,
    /// The multipart upload has been completed, and the copy has not been verified.
    PartsJoined,
    /// Copies are verified, and not committed.
    Finishing,
    /// A copy has failed, which has not been recorded.
    Failing,
    /// Copies are marked for eviction, and none has been checked again.
    EvictionMarked,
    /// A copy is about to be checked again.
    EvictionBegun,
    /// The copy may be deleted, and has not been deleted yet.
    EvictionChecked,
    /// The copy has been deleted.
    EvictionDeleted,
    /// All of them have been deleted, and their rows have not.
    EvictionForgetting,
    /// An object being removed is about to be deleted from another store.
    RemovalBegun,
    /// The data has been deleted, the rows have not.
    RemovalDeleted,
    /// An orphan is about to be deleted.
    OrphanSeen,
    /// A surplus object has been marked, and not deleted.
    SurplusMarked,
    /// Before a missing copy is marked as lost.
    Condemning,
    /// A copy has been read, and the result has not been recorded.
    ScrubRead,
}

#[cfg(debug_assertions)]
pub use watched::{Watcher, reached, watched};

/// Reports that a step is reached with the object of this key. Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[allow(clippy::unused_async, reason = "it waits for the observer")]
pub async fn reached(_: Step, _: &str) {}

#[cfg(debug_assertions)]
mod watched {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;

    use super::Step;

    /// Observes the steps of a task, each of which continues when its future completes.
    pub type Watcher = Arc<dyn Fn(Step, &str) -> BoxFuture<'static, ()> + Send + Sync>;

    tokio::task_local! {
        static WATCHER: Watcher;
    }

    /// Runs `work` observed by `watcher`. Tasks that it spawns are not observed.
    pub async fn watched<T>(watcher: Watcher, work: impl Future<Output = T>) -> T {
        WATCHER.scope(watcher, work).await
    }

    /// Reports that a step is reached with the object of this key, and waits for the observer.
    pub async fn reached(step: Step, key: &str) {
        if let Ok(watcher) = WATCHER.try_with(Arc::clone) {
            watcher(step, key).await;
        }
    }
}
