//! One sequence from an empty world to its end: executes each operation, reports the result to the oracle, and checks.

use nightferry_core::context::Context;
use nightferry_core::error::Result as Outcome;
use nightferry_core::ids::UserId;
use nightferry_core::object::health;
use nightferry_core::services::Services;
use nightferry_core::step::{Step, watched};
use nightferry_tests::harness::{World, eventually, pattern};
use tokio::task::{JoinError, JoinHandle};

use crate::check::{self, Map, Truth};
use crate::evidence::{Evidence, Fact, Note};
use crate::op::{Act, How, Op, Place, Script, Span, Trouble};
use crate::operation::{self, Effect, Operation, perform};
use crate::oracle::Oracle;
use crate::planted::Bug;
use crate::rewind::Backup;
use crate::stage::{Tally, heal, proxy};
use crate::tampering::long_ago;
use crate::truth::StoreContents;
use crate::watch::{Findings, Watch};

/// Number of rounds of passes after which everything must be consistent.
const ROUNDS: u32 = 8;

/// An operation suspended at a step.
struct Stalled {
    task: JoinHandle<Outcome<Effect>>,
    watch: Watch,
    step: Step,
    name: String,
}

/// One sequence.
pub(crate) struct Sequence<'w> {
    pub(crate) world: &'w World,
    pub(crate) context: Context,
    services: Services,
    pub(crate) owner: UserId,
    pub(crate) oracle: Oracle,
    pub(crate) bug: Option<Bug>,
    stalled: Vec<Stalled>,
    findings: Findings,
    evidence: Evidence,
    /// The last backup of the database.
    pub(crate) backup: Option<Backup>,
    /// Seed of the content of the next upload.
    seed: u64,
    tally: &'w Tally,
}

impl<'w> Sequence<'w> {
    pub(crate) fn new(
        world: &'w World,
        services: Services,
        owner: UserId,
        bug: Option<Bug>,
        tally: &'w Tally,
    ) -> Self {
        let context = services.context.clone();
        Self {
            world,
            context,
            services,
            owner,
            oracle: Oracle::default(),
            bug,
            stalled: Vec::new(),
            findings: Findings::default(),
            evidence: Evidence::default(),
            backup: None,
            seed: 0,
            tally,
        }
    }

    /// Runs the sequence. The error names the violated invariant and the operation.
    pub(crate) async fn play(mut self, script: &Script) -> Result<(), String> {
        let played = self.play_to_the_end(script).await;
        self.drop_stalled(|_| true).await;
        played
    }

    async fn play_to_the_end(&mut self, script: &Script) -> Result<(), String> {
        for (number, op) in script.ops.iter().enumerate() {
            let done = match self.operate(op).await {
                Ok(()) => self.check().await,
                wrong => wrong,
            };
            done.map_err(|wrong| format!("{wrong}\nafter operation {number}, {op:?}"))?;
        }
        self.settle().await.map_err(|wrong| format!("{wrong}\nin the end"))
    }

    async fn operate(&mut self, op: &Op) -> Result<(), String> {
        match *op {
            Op::Do(act) => self.act(act, None).await?,
            Op::Break(act, step, how) => self.act(act, Some((step, how))).await?,
            Op::Resume(which) => self.resume(which).await?,
            Op::Time(span) => self.pass_time(span).await,
            Op::Fault(place, trouble) => {
                self.oracle.corrupting |= matches!(trouble, Trouble::WrongBytes | Trouble::FalseChecksums);
                self.oracle.garbling |= matches!(trouble, Trouble::FlipResponse);
                self.trouble(place, trouble);
                if matches!(trouble, Trouble::FalseChecksums) {
                    self.send_canaries(place).await;
                }
            }
            Op::Down(place) => proxy(self.world, place).down().await,
            Op::Heal(place) => heal(self.world, place).await,
            Op::Destroy(place, which, damage) => self.destroy(place, which, damage).await,
            Op::GiveBack(place, which) => self.give_back(place, which).await,
            Op::Stray(place) => self.stray(place, long_ago()).await,
            Op::Newborn(place) => self.stray(place, chrono::Duration::zero()).await,
            Op::Surplus(place, which) => self.surplus(place, which).await,
            Op::Exchanged(place, ref acts) => self.exchanged(place, acts).await?,
            Op::BackUp => self.back_up().await,
            Op::Rewind => self.rewind().await,
            Op::Clock(hours) => self.context.clock.jump(chrono::Duration::hours(hours.into())),
        }
        Ok(())
    }

    pub(crate) async fn act(&mut self, act: Act, broken: Option<(Step, How)>) -> Result<(), String> {
        let Some((operation, name)) = self.resolve(act) else { return Ok(()) };
        let watch = Watch::new(&self.context, broken.map(|(step, _)| step), self.bug, &self.findings);
        let (services, bug) = (self.services.clone(), self.bug);
        let mut task =
            tokio::spawn(watched(watch.watcher(), async move { perform(&services, operation, bug).await }));
        let ended = tokio::select! {
            ended = &mut task => {
                watch.see_again().await;
                ended
            }
            () = watch.arrived.notified() => {
                if let Some((step, _)) = broken {
                    *self.tally.lock().unwrap().entry(step).or_default() += 1;
                }
                match broken {
                    Some((step, How::Stall)) => self.stalled.push(Stalled { task, watch, step, name }),
                    _ => kill(task).await,
                }
                return Ok(());
            }
        };
        self.note(&name, ended)
    }

    async fn resume(&mut self, which: u8) -> Result<(), String> {
        if self.stalled.is_empty() {
            return Ok(());
        }
        let stalled = self.stalled.remove(usize::from(which) % self.stalled.len());
        // Its writes may arrive after its row is gone.
        self.oracle.late = true;
        stalled.watch.go.notify_one();
        let ended = stalled.task.await;
        stalled.watch.see_again().await;
        let noted = self.note(&stalled.name, ended);
        // It compared some objects before other operations.
        self.oracle.reconciled = None;
        noted
    }

    /// The result of an operation.
    fn note(&mut self, name: &str, ended: Result<Outcome<Effect>, JoinError>) -> Result<(), String> {
        let effect = match ended {
            Err(panicked) => return Err(format!("the engine panicked: {panicked}")),
            Ok(Err(error)) if operation::is_expected(&error) => return Ok(()),
            Ok(Err(error)) => return Err(format!("the database rejected a statement: {error:?}")),
            Ok(Ok(effect)) => effect,
        };
        if let Effect::Read(file, read) = effect
            && !self.oracle.may_read(file, read)
        {
            return Err("I1: a download returned other content than was uploaded".to_owned());
        }
        self.oracle.note(self.owner, name, &effect);
        Ok(())
    }

    /// The operation with its numbers resolved, and the name of its upload; `None` if there is nothing to apply it to.
    fn resolve(&mut self, act: Act) -> Option<(Operation, String)> {
        let owner = self.owner;
        let operation = match act {
            Act::Upload { name, size } => {
                self.seed += 1;
                let name = format!("f{name}");
                let bytes = pattern(self.seed, size.into()).bytes();
                return Some((Operation::Upload { owner, name: name.clone(), bytes }, name));
            }
            Act::Trash(file) => Operation::Trash(owner, self.oracle.pick(file)?),
            Act::Restore(file) => Operation::Restore(self.oracle.pick(file)?),
            Act::Purge(file) => Operation::Purge(owner, self.oracle.pick(file)?),
            Act::Pin(file, pinned) => Operation::Pin(self.oracle.pick(file)?, pinned),
            Act::Read(file) => Operation::Read(owner, self.oracle.pick(file)?),
            Act::RequestRun { retry } => Operation::RequestRun { retry },
            Act::CancelRun => Operation::CancelRun,
            Act::Work => Operation::Work,
            Act::Worker => Operation::Worker,
            Act::Fetch(file) => Operation::Fetch(self.oracle.pick(file)?),
            Act::WorkFetches => Operation::WorkFetches,
            Act::Reap => Operation::Reap,
            Act::Repair => Operation::Repair,
            Act::Evict => Operation::Evict,
            Act::Watermark => Operation::Watermark,
            Act::Reconcile(place, apply) => Operation::Reconcile(place, apply),
            Act::Scrub => Operation::Scrub,
        };
        Some((operation, String::new()))
    }

    /// Drops operations that are suspended at these steps.
    pub(crate) async fn drop_stalled(&mut self, at: impl Fn(Step) -> bool) {
        let (dying, staying) = std::mem::take(&mut self.stalled).into_iter().partition(|act| at(act.step));
        self.stalled = staying;
        let dying: Vec<Stalled> = dying;
        for act in dying {
            kill(act.task).await;
        }
    }

    pub(crate) async fn truth(&self) -> Truth {
        let mut truth = Truth::new();
        for place in Place::ALL {
            truth.insert(place, StoreContents::of(self.world, place).contents().await);
        }
        truth
    }

    async fn check(&mut self) -> Result<(), String> {
        if let Some(complaint) = self.findings.complaints.lock().unwrap().first() {
            return Err(complaint.clone());
        }
        let notes = self.take_notes();
        self.evidence.judge(&self.oracle, notes)?;
        let (truth, map) = (self.truth().await, Map::read(&self.context).await);
        check::each_step(&mut self.oracle, &truth, &map)
    }

    /// What has happened since the last check.
    fn take_notes(&self) -> Vec<Note> {
        let mut notes = std::mem::take(&mut *self.findings.notes.lock().unwrap());
        for place in Place::ALL {
            let events = StoreContents::of(self.world, place).take_events().into_iter();
            notes.extend(events.map(|event| Note {
                moment: event.moment,
                key: event.key,
                fact: Fact::InStore(place, event.what),
            }));
        }
        notes
    }

    /// Probes the stores until they are healthy, as every process does continuously.
    async fn assert_invariants(&self) {
        let stores = || self.context.stores.all();
        eventually("every store is healthy", || async {
            health::check_all(&self.context).await;
            stores().all(|store| self.context.stores.health().is_up(store.name().as_str())).then_some(())
        })
        .await;
    }

    /// Ends all faults, gives the engine time, and checks again.
    async fn settle(&mut self) -> Result<(), String> {
        self.drop_stalled(|_| true).await;
        for place in Place::ALL {
            heal(self.world, place).await;
        }
        self.assert_invariants().await;
        self.pass_time(Span::Days).await;
        let mut settled = Ok(());
        for _ in 0..ROUNDS {
            for act in [Act::Reap, Act::Evict, Act::Repair, Act::RequestRun { retry: true }] {
                self.act(act, None).await?;
            }
            for _ in 0..3 {
                self.act(Act::Work, None).await?;
                self.act(Act::WorkFetches, None).await?;
            }
            for place in Place::ALL {
                self.act(Act::Reconcile(place, true), None).await?;
            }
            self.act(Act::Scrub, None).await?;
            self.pass_time(Span::Days).await;
            self.check().await?;
            let (truth, map) = (self.truth().await, Map::read(&self.context).await);
            settled = check::settled(&self.services.files, self.owner, &mut self.oracle, &truth, &map).await;
            if settled.is_ok() {
                settled = self.no_upload_is_left();
            }
            if settled.is_ok() {
                break;
            }
        }
        settled
    }

    /// I4 for multipart uploads: unknown ones occupy space and appear in no listing.
    fn no_upload_is_left(&self) -> Result<(), String> {
        for place in Place::ALL {
            if let Some((id, key)) = StoreContents::of(self.world, place).uploads().pop_first() {
                return Err(format!("I4: the upload {id} of {key} is left in {}", place.name()));
            }
        }
        Ok(())
    }
}

/// As by kill -9.
async fn kill(task: JoinHandle<Outcome<Effect>>) {
    task.abort();
    // It was aborted, or had already ended.
    let _ = task.await;
}
