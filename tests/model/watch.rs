//! Observes a task of the engine: checks the database when the engine is about to delete (I2), and suspends the task at
//! the step where it is to be interrupted.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use nightferry_core::context::Context;
use nightferry_core::step::{Step, Watcher};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::memory_s3::moment;
use tokio::sync::Notify;

use crate::evidence::{Fact, Note};
use crate::planted::Bug;

/// The watch of one task.
#[derive(Clone)]
pub(crate) struct Watch {
    context: Context,
    bug: Option<Bug>,
    /// Where it is suspended, once.
    hold: Arc<Mutex<Option<Step>>>,
    pub(crate) arrived: Arc<Notify>,
    pub(crate) go: Arc<Notify>,
    findings: Findings,
}

/// What the watches of a sequence have found.
#[derive(Clone, Default)]
pub(crate) struct Findings {
    pub(crate) complaints: Complaints,
    /// For I7.
    pub(crate) notes: Arc<Mutex<Vec<Note>>>,
}

/// Observed violations.
pub(crate) type Complaints = Arc<Mutex<Vec<String>>>;

impl Watch {
    pub(crate) fn new(context: &Context, hold: Option<Step>, bug: Option<Bug>, findings: &Findings) -> Self {
        Self {
            context: context.clone(),
            bug,
            hold: Arc::new(Mutex::new(hold)),
            arrived: Arc::default(),
            go: Arc::default(),
            findings: findings.clone(),
        }
    }

    pub(crate) fn watcher(&self) -> Watcher {
        let watch = self.clone();
        Arc::new(move |step, key| {
            let (watch, key) = (watch.clone(), key.to_owned());
            async move { watch.saw(step, &key).await }.boxed()
        })
    }

    async fn saw(&self, step: Step, key: &str) {
        if matches!(step, Step::EvictionChecked | Step::EvictionForgetting) {
            self.see_again().await;
        }
        match step {
            Step::EvictionBegun => self.note(key, Fact::Considered),
            Step::EvictionChecked => self.note(key, Fact::Decided),
            _ => {}
        }
        match step {
            Step::EvictionChecked => self.another_exists(key, true).await,
            Step::SurplusMarked => self.another_exists(key, false).await,
            _ => {}
        }
        let here = {
            let mut hold = self.hold.lock().unwrap();
            if *hold == Some(step) { hold.take() } else { None }
        };
        if here.is_some() {
            self.arrived.notify_one();
            self.go.notified().await;
        }
        if step == Step::EvictionBegun {
            self.be_blind(key).await;
        }
    }

    fn note(&self, key: &str, fact: Fact) {
        self.findings.notes.lock().unwrap().push(Note { moment: moment(), key: key.to_owned(), fact });
    }

    /// I2, at the last moment before a deletion.
    async fn another_exists(&self, key: &str, heeds_pins: bool) {
        let sql = format!(
            "SELECT 1 FROM objects o WHERE o.key = '{key}' AND EXISTS (SELECT 1 FROM replicas c \
                 WHERE c.object_id = o.id AND c.state = 'present' AND c.verified_at IS NOT NULL) \
             AND NOT ({heeds_pins} AND EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
                 WHERE v.object_id = o.id AND f.pinned AND f.deleted_at IS NULL))"
        );
        if texts(&self.context.db, &sql).await.is_empty() {
            let complaint = format!(
                "I2: {key} is about to be evicted without another verified copy, or although it is pinned"
            );
            self.findings.complaints.lock().unwrap().push(complaint);
        }
    }

    /// Makes the check before a deletion find another copy, regardless of the stores.
    async fn be_blind(&self, key: &str) {
        if self.bug != Some(Bug::RowThatLies) {
            return;
        }
        let sql = format!(
            "INSERT INTO replicas (object_id, store, state, verified_at) \
             SELECT o.id, '{PLANTED}', 'present', now() FROM objects o WHERE o.key = '{key}' ON CONFLICT DO NOTHING"
        );
        execute(&self.context.db, &sql).await.unwrap();
    }

    /// Reverts that.
    pub(crate) async fn see_again(&self) {
        if self.bug == Some(Bug::RowThatLies) {
            let sql = format!("DELETE FROM replicas WHERE store = '{PLANTED}'");
            execute(&self.context.db, &sql).await.unwrap();
        }
    }
}

/// A store that does not exist.
const PLANTED: &str = "planted";
