//! One sequence from an empty world to its end: does each operation, tells the oracle what came of it, and checks.

use nightferry_core::context::Context;
use nightferry_core::error::Result as Outcome;
use nightferry_core::ids::UserId;
use nightferry_core::object::health;
use nightferry_core::services::Services;
use nightferry_core::step::{Step, watched};
use nightferry_tests::harness::{World, eventually, pattern};
use tokio::task::{JoinError, JoinHandle};

use crate::check::{self, Map, Truth};
use crate::deed::{self, Deed, Effect, perform};
use crate::meddling::long_ago;
use crate::op::{Act, How, Op, Place, Script, Span, Trouble};
use crate::oracle::Oracle;
use crate::planted::Bug;
use crate::stage::{Tally, heal, proxy};
use crate::truth::Vault;
use crate::watch::{Complaints, Watch};

/// Rounds of passes within which everything must have come right.
const ROUNDS: u32 = 8;

/// An act that hangs at a step.
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
    complaints: Complaints,
    /// Of the next upload's bytes.
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
        let (oracle, complaints) = (Oracle::default(), Complaints::default());
        let context = services.context.clone();
        Self { world, context, services, owner, oracle, bug, stalled: Vec::new(), complaints, seed: 0, tally }
    }

    /// Plays it. The error says which invariant broke, and where.
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
                self.oracle.corrupting |= matches!(trouble, Trouble::WrongBytes);
                self.oracle.garbling |= matches!(trouble, Trouble::FlipResponse);
                self.trouble(place, trouble);
            }
            Op::Down(place) => proxy(self.world, place).down().await,
            Op::Heal(place) => heal(self.world, place).await,
            Op::Destroy(place, which, damage) => self.destroy(place, which, damage).await,
            Op::GiveBack(place, which) => self.give_back(place, which).await,
            Op::Stray(place) => self.stray(place, long_ago()).await,
            Op::Newborn(place) => self.stray(place, chrono::Duration::zero()).await,
            Op::Surplus(place, which) => self.surplus(place, which).await,
        }
        Ok(())
    }

    async fn act(&mut self, act: Act, broken: Option<(Step, How)>) -> Result<(), String> {
        let Some((deed, name)) = self.resolve(act) else { return Ok(()) };
        let watch = Watch::new(&self.context, broken.map(|(step, _)| step), self.bug, &self.complaints);
        let (services, bug) = (self.services.clone(), self.bug);
        let mut task =
            tokio::spawn(watched(watch.watcher(), async move { perform(&services, deed, bug).await }));
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
        // What it sends now may come after its row is gone.
        self.oracle.late = true;
        stalled.watch.go.notify_one();
        let ended = stalled.task.await;
        stalled.watch.see_again().await;
        self.note(&stalled.name, ended)
    }

    /// What an act came to.
    fn note(&mut self, name: &str, ended: Result<Outcome<Effect>, JoinError>) -> Result<(), String> {
        let effect = match ended {
            Err(panicked) => return Err(format!("the engine panicked: {panicked}")),
            Ok(Err(error)) if deed::is_expected(&error) => return Ok(()),
            Ok(Err(error)) => return Err(format!("the database refused: {error:?}")),
            Ok(Ok(effect)) => effect,
        };
        if let Effect::Read(file, read) = effect
            && !self.oracle.may_read(file, read)
        {
            return Err("I1: a download gave other bytes than were uploaded".to_owned());
        }
        self.oracle.note(self.owner, name, &effect);
        Ok(())
    }

    /// The act with what its numbers mean, and the name of what it uploads; none when there is nothing to do it to.
    fn resolve(&mut self, act: Act) -> Option<(Deed, String)> {
        let owner = self.owner;
        let deed = match act {
            Act::Upload { name, size } => {
                self.seed += 1;
                let name = format!("f{name}");
                let bytes = pattern(self.seed, size.into()).bytes();
                return Some((Deed::Upload { owner, name: name.clone(), bytes }, name));
            }
            Act::Trash(file) => Deed::Trash(owner, self.oracle.pick(file)?),
            Act::Restore(file) => Deed::Restore(self.oracle.pick(file)?),
            Act::Purge(file) => Deed::Purge(owner, self.oracle.pick(file)?),
            Act::Pin(file, pinned) => Deed::Pin(self.oracle.pick(file)?, pinned),
            Act::Read(file) => Deed::Read(owner, self.oracle.pick(file)?),
            Act::RequestRun { retry } => Deed::RequestRun { retry },
            Act::CancelRun => Deed::CancelRun,
            Act::Work => Deed::Work,
            Act::Worker => Deed::Worker,
            Act::Fetch(file) => Deed::Fetch(self.oracle.pick(file)?),
            Act::WorkFetches => Deed::WorkFetches,
            Act::Reap => Deed::Reap,
            Act::Repair => Deed::Repair,
            Act::Free => Deed::Free,
            Act::Watermark => Deed::Watermark,
            Act::Reconcile(place, apply) => Deed::Reconcile(place, apply),
            Act::Scrub => Deed::Scrub,
        };
        Some((deed, String::new()))
    }

    /// Lets acts die that hang at such steps.
    pub(crate) async fn drop_stalled(&mut self, at: impl Fn(Step) -> bool) {
        let (dying, staying) = std::mem::take(&mut self.stalled).into_iter().partition(|act| at(act.step));
        self.stalled = staying;
        let dying: Vec<Stalled> = dying;
        for act in dying {
            kill(act.task).await;
        }
    }

    async fn truth(&self) -> Truth {
        let mut truth = Truth::new();
        for place in Place::ALL {
            truth.insert(place, Vault::of(self.world, place).contents().await);
        }
        truth
    }

    async fn check(&mut self) -> Result<(), String> {
        if let Some(complaint) = self.complaints.lock().unwrap().first() {
            return Err(complaint.clone());
        }
        let (truth, map) = (self.truth().await, Map::read(&self.context).await);
        check::each_step(&mut self.oracle, &truth, &map)
    }

    /// Asks the stores until they are known to be well, as every process does all the time.
    async fn see_that_all_is_well(&self) {
        let stores = || self.context.stores.all();
        eventually("every store is well", || async {
            health::look(&self.context).await;
            stores().all(|store| self.context.stores.health().is_up(store.name().as_str())).then_some(())
        })
        .await;
    }

    /// Mends the world, gives the engine time, and looks once more.
    async fn settle(&mut self) -> Result<(), String> {
        self.drop_stalled(|_| true).await;
        for place in Place::ALL {
            heal(self.world, place).await;
        }
        self.see_that_all_is_well().await;
        self.pass_time(Span::Days).await;
        let mut settled = Ok(());
        for _ in 0..ROUNDS {
            for act in [Act::Reap, Act::Free, Act::Repair, Act::RequestRun { retry: true }] {
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

    /// I4 of uploads in parts: those that nobody knows any more take room and appear in no listing.
    fn no_upload_is_left(&self) -> Result<(), String> {
        for place in Place::ALL {
            if let Some((id, key)) = Vault::of(self.world, place).uploads().pop_first() {
                return Err(format!("I4: the upload {id} of {key} is left in {}", place.name()));
            }
        }
        Ok(())
    }
}

/// As kill -9 does.
async fn kill(task: JoinHandle<Outcome<Effect>>) {
    task.abort();
    // It was aborted, or had ended already.
    let _ = task.await;
}
