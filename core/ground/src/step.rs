//! Named steps of the engine, at which its tests look at it, hold it or let it die. Only builds with debug assertions
//! know of them, and only for a task that a test has wrapped: in a release nothing is called and nothing is there to call.

/// A point between two acts that a crash may separate. No transaction and no connection is held at any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// An upload is marked, and nothing was sent.
    UploadBegun,
    /// An upload is stored and proved, and not acknowledged.
    UploadStored,
    /// Copies are claimed, and none is begun.
    Claimed,
    /// A small source was read, and nothing was sent.
    CopyRead,
    /// The destination acknowledged a copy, and it is not proved.
    CopySent,
    /// The destination has begun an upload in parts, and nobody has noted it.
    PartsBegun,
    /// It has a part, and nobody has noted that.
    PartSent,
    /// The lease still held, and the parts are not put together.
    PartsSent,
    /// They were put together, and the copy is not proved.
    PartsJoined,
    /// Copies are proved, and not committed.
    Finishing,
    /// A copy failed, and that is not recorded.
    Failing,
    /// Copies are marked to be freed, and none was looked at again.
    EvictionMarked,
    /// One of them is about to be looked at again.
    EvictionBegun,
    /// It may be deleted, and was not yet.
    EvictionChecked,
    /// It was deleted.
    EvictionDeleted,
    /// All of them were, and their rows were not.
    EvictionForgetting,
    /// An object on its way out is about to be deleted from one more store.
    RemovalBegun,
    /// Its bytes are gone, its rows are not.
    RemovalDeleted,
    /// An object that nobody knows is about to be deleted.
    OrphanSeen,
    /// An object that should not be where it is was marked, and not deleted.
    SurplusMarked,
    /// A copy is missing, and not marked as lost.
    Condemning,
    /// A copy was read, and what was seen is not recorded.
    ScrubRead,
}

#[cfg(debug_assertions)]
pub use watched::{Watcher, reached, watched};

/// Says that a step is reached with the object of this key. Nothing in a release.
#[cfg(not(debug_assertions))]
#[allow(clippy::unused_async, reason = "it waits where tests watch")]
pub async fn reached(_: Step, _: &str) {}

#[cfg(debug_assertions)]
mod watched {
    use std::sync::Arc;

    use futures_util::future::BoxFuture;

    use super::Step;

    /// Hears of the steps of a task, each of which goes on when its future ends.
    pub type Watcher = Arc<dyn Fn(Step, &str) -> BoxFuture<'static, ()> + Send + Sync>;

    tokio::task_local! {
        static WATCHER: Watcher;
    }

    /// Runs `work` under the eyes of `watcher`. What it spawns runs unseen.
    pub async fn watched<T>(watcher: Watcher, work: impl Future<Output = T>) -> T {
        WATCHER.scope(watcher, work).await
    }

    /// Says that a step is reached with the object of this key, and waits for whoever watches.
    pub async fn reached(step: Step, key: &str) {
        if let Ok(watcher) = WATCHER.try_with(Arc::clone) {
            watcher(step, key).await;
        }
    }
}
