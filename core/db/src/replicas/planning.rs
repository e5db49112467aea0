//! The plan of a run in steps, each of which examines a bounded number of objects. A step is a short transaction that
//! locks the row of the run, so that the commits of copies, which count in that row, never wait for a whole plan.

use std::collections::VecDeque;

use diesel_async::AsyncPgConnection;

use super::candidates::{Among, Candidates};
use super::plan::{Amount, Before, Until, Wanted, drop_unwanted, queue, take_out_of_other_runs};
use crate::error::Result;
use crate::ids::{ObjectId, RunId};
use crate::policy::Policy;
use crate::runs::RunScope;

/// What a step examines; the stores are destinations.
#[derive(Debug, Clone, Copy)]
enum Stage<'p> {
    /// Queued copies of other runs.
    OtherRuns,
    /// Objects that may have no copy in the store.
    Absent(&'p str),
    /// Objects whose copy in the store waits for a run.
    Waiting(&'p str),
    /// The same, for copies that no rule requires any more.
    Unwanted(&'p str),
}

/// A plan that is being made.
#[derive(Debug)]
pub struct Planning<'p> {
    run: RunId,
    policy: &'p Policy<'p>,
    scope: &'p RunScope,
    until: Until,
    /// The current one first.
    stages: VecDeque<Stage<'p>>,
    /// The position in the current stage; `None` at its start.
    candidates: Option<Candidates<'p>>,
}

/// The result of a step.
#[derive(Debug, Default)]
pub struct PlannedStep {
    /// What it added to the run.
    pub added: Amount,
    /// The objects it examined.
    pub objects: Vec<ObjectId>,
}

impl<'p> Planning<'p> {
    /// Starts at the first object.
    pub fn new(run: RunId, policy: &'p Policy<'p>, scope: &'p RunScope, until: Until) -> Self {
        let mut stages = VecDeque::new();
        // Copies of the named files are taken over from any run.
        if scope.file_ids.is_none() {
            stages.push_back(Stage::OtherRuns);
        }
        for store in policy.targets() {
            stages.extend([Stage::Absent(store), Stage::Waiting(store)]);
        }
        let usual = policy.usual();
        let kept = |store: &&str| policy.rules.is_empty() && usual.contains(store);
        stages.extend(policy.clouds.iter().copied().filter(|store| !kept(store)).map(Stage::Unwanted));
        Self { run, policy, scope, until, stages, candidates: None }
    }

    /// Plans the next objects; `None` at the end. Part of a transaction that has locked the row of the run. A plan that
    /// was interrupted is made again from the start: what is queued already is not counted twice.
    ///
    /// # Errors
    /// Any database error; the planning must then be abandoned.
    pub async fn step(&mut self, conn: &mut AsyncPgConnection) -> Result<Option<PlannedStep>> {
        while let Some(stage) = self.stages.front().copied() {
            let (Stage::Absent(store) | Stage::Waiting(store) | Stage::Unwanted(store)) = stage else {
                if take_out_of_other_runs(conn, self.run).await? > 0 {
                    return Ok(Some(PlannedStep::default()));
                }
                self.stages.pop_front();
                continue;
            };
            let wanted = Wanted { policy: self.policy, store, scope: self.scope, until: self.until };
            let mut candidates = match (self.candidates.take(), stage) {
                (Some(candidates), _) => candidates,
                (None, Stage::Absent(_)) => Candidates::absent(conn, &wanted).await?,
                (None, _) => Candidates::waiting(conn, &wanted).await?,
            };
            let Some(among) = candidates.next(conn).await? else {
                self.stages.pop_front();
                continue;
            };
            self.candidates = Some(candidates);
            let added = match stage {
                Stage::Absent(_) => queue(conn, self.run, &wanted, &among, Before::Nothing).await?,
                Stage::Waiting(_) => queue(conn, self.run, &wanted, &among, Before::Waiting).await?,
                Stage::OtherRuns | Stage::Unwanted(_) => {
                    drop_unwanted(conn, &wanted, &among).await?;
                    Amount::default()
                }
            };
            let objects = match among {
                Among::Objects(objects) => objects,
                Among::Everything => Vec::new(),
            };
            return Ok(Some(PlannedStep { added, objects }));
        }
        Ok(None)
    }
}
