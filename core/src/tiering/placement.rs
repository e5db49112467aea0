//! Explains where a file is stored, what happens to it next, and when.

use chrono::{DateTime, Utc};

use super::{policy, schedule};
use crate::config::{FreeLocalAfter, RuleConfig};
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::files::{self, FileRow};
use crate::db::policy::{DEFAULT_RULE, Policy};
use crate::db::replicas::{self, Replica};
use crate::db::restores::{self, Restore};
use crate::db::runs;
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};

/// The next step for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    /// `copy`, `copying`, `move` (its store is being drained or rebalanced), `free`, `removed`, `retry` (by a later
    /// run, or on request), `suspect` (a copy was found missing or wrong, and is not repaired yet), `lost` (no verified
    /// copy is left) or `none`.
    pub action: &'static str,
    /// When, if known.
    pub at: Option<DateTime<Utc>>,
    /// The same as a sentence.
    pub because: String,
}

/// The placement of one file, and the next step.
#[derive(Debug, Clone)]
pub struct Placement {
    /// The file.
    pub file: FileRow,
    /// Replicas.
    pub replicas: Vec<Replica>,
    /// Restores of archived copies.
    pub restores: Vec<Restore>,
    /// The rule that applies.
    pub rule: String,
    /// The next step.
    pub next: NextStep,
}

/// Explains one file. `owner` `None`: for an administrator.
///
/// # Errors
/// [`Error::NotFound`], also for files of other users.
pub async fn explain(context: &Context, id: FileId, owner: Option<UserId>) -> Result<Placement> {
    let mut conn = context.db.conn().await?;
    let policy = policy::in_force(context, &mut conn).await?;
    let (file, object, _) = files::find(&mut conn, id, owner).await?.ok_or(Error::NotFound(Noun::File))?;
    let replicas = replicas::of_objects(&mut conn, &[object]).await?;
    let restores = restores::of_object(&mut conn, object).await?;
    let decided = match replicas::decide(&mut conn, &policy, object).await? {
        Some(number) => policy.rules.get(&number),
        None => None,
    };
    let known = Known::of(&policy, decided, &replicas);
    let in_run = match known.at_cloud.and_then(|replica| replica.run_id) {
        Some(run) => runs::find(&mut conn, run).await?.filter(|run| run.status.is_active()),
        None => None,
    };
    let next = match nothing_left(&replicas).or_else(|| moving(&policy, &replicas)) {
        Some(next) => next,
        None => next_step(context, &policy, &file, &known, in_run.is_some())?,
    };
    // Queued copies are decided again when they are planned.
    let is_settled = |replica: &&Replica| replica.state != ReplicaState::Queued || in_run.is_some();
    let remembered = known.at_cloud.filter(is_settled).and_then(|replica| replica.rule.clone());
    let now = || decided.map_or_else(|| DEFAULT_RULE.to_owned(), |rule| rule.name.clone());
    let rule = remembered.unwrap_or_else(now);
    Ok(Placement { file, replicas, restores, rule, next })
}

/// The facts that determine the next step.
struct Known<'p> {
    /// The matching rule; `None`: the default.
    rule: Option<&'p RuleConfig>,
    at_local: Option<&'p Replica>,
    /// The next cloud store, or the first one if all copies are made.
    cloud: &'p str,
    at_cloud: Option<&'p Replica>,
}

impl<'p> Known<'p> {
    fn of(policy: &Policy<'p>, rule: Option<&'p RuleConfig>, replicas: &'p [Replica]) -> Self {
        let at = |store: &str| replicas.iter().find(|replica| replica.store == store);
        let is_there = |store: &&str| at(store).is_some_and(|replica| replica.state == ReplicaState::Present);
        let stays = rule.is_some_and(|rule| rule.stays(policy.local));
        // A file that a rule keeps local may have been synced before.
        let wanted = if stays { policy.clouds.clone() } else { policy.stores_of(rule) };
        let next = wanted.iter().find(|store| is_there(store) == stays);
        let cloud = next.or(wanted.first()).or(policy.clouds.first()).copied().unwrap_or_default();
        // Of several local copies, the one in the best state.
        let here = replicas.iter().filter(|replica| policy.locals.contains(&replica.store.as_str()));
        let at_local = here.min_by_key(|replica| match replica.state {
            ReplicaState::Present => 0,
            ReplicaState::Copying => 1,
            ReplicaState::Queued => 2,
            ReplicaState::Evicting => 3,
            ReplicaState::Lost => 4,
            ReplicaState::Failed => 5,
        });
        Self { rule, at_local, cloud, at_cloud: at(cloud) }
    }
}

/// The next step for a file of which every verified copy is lost; `None` for all others.
fn nothing_left(replicas: &[Replica]) -> Option<NextStep> {
    let whole = [ReplicaState::Present, ReplicaState::Evicting];
    if replicas.iter().any(|replica| whole.contains(&replica.state)) {
        return None;
    }
    let lost = replicas.iter().filter(|replica| replica.state == ReplicaState::Lost);
    let stores: Vec<&str> = lost.map(|replica| replica.store.as_str()).collect();
    (!stores.is_empty()).then(|| NextStep {
        action: "lost",
        at: None,
        because: format!(
            "no verified copy is left: it is missing or corrupt in {}. Nothing is deleted; put its content \
             back there and run `nightferry scrub`, or restore a backup",
            stores.join(" and ")
        ),
    })
}

/// The next step for a file of which a copy is being moved; `None` for all others.
fn moving(policy: &Policy<'_>, replicas: &[Replica]) -> Option<NextStep> {
    let evened_out =
        replicas.iter().find_map(|replica| Some((replica.store.as_str(), replica.moves_to.as_deref()?)));
    if let Some((from, to)) = evened_out {
        let because = format!("its copy in {from} is being moved to {to} to rebalance the local stores");
        return Some(NextStep { action: "move", at: None, because });
    }
    let leaves =
        |replica: &&Replica| replica.verified_at.is_some() && policy.draining.contains(&replica.store);
    let from = replicas.iter().find(leaves)?.store.as_str();
    Some(NextStep {
        action: "move",
        at: None,
        because: format!(
            "its copy in {from} is being moved to another store, because {from} is being \
            drained"
        ),
    })
}

fn next_step(
    context: &Context,
    policy: &Policy<'_>,
    file: &FileRow,
    known: &Known<'_>,
    in_run: bool,
) -> Result<NextStep> {
    let step = |action, at, because: String| Ok(NextStep { action, at, because });
    if file.deleted_at.is_some() {
        return step("none", None, "it is in the trash, and files in the trash are not synced".to_owned());
    }
    let nightly = schedule::next_tick(&context.config.tiering, context.clock.now())?;
    let cloud = known.cloud;
    let waits = known.at_cloud.is_none_or(|replica| replica.state == ReplicaState::Queued && !in_run);
    if let Some(rule) = known.rule.filter(|rule| waits && rule.stays(policy.local)) {
        return stay(context, policy.local, file, rule);
    }
    let by_rule =
        known.rule.map(|rule| format!(", according to the rule \"{}\"", rule.name)).unwrap_or_default();
    match known.at_cloud {
        None => step(
            "copy",
            nightly,
            format!(
                "it is not in {cloud} yet and will be copied by the next \
                run{by_rule}"
            ),
        ),
        Some(replica) => match replica.state {
            ReplicaState::Queued if in_run => {
                step("copy", Some(replica.not_before), "it is queued in the active run".to_owned())
            }
            ReplicaState::Queued => step("copy", nightly, "it is queued for the next run".to_owned()),
            ReplicaState::Copying => step("copying", None, format!("a worker is copying it to {cloud}")),
            ReplicaState::Failed => {
                let due = policy.patience.due(replica.queued_at, replica.not_before);
                let at = schedule::next_tick(&context.config.tiering, due.max(context.clock.now()))?;
                step(
                    "retry",
                    at,
                    format!(
                        "copying it to {cloud} failed; a later run retries it, or at once: fix the cause and run \
                         `nightferry sync retry`"
                    ),
                )
            }
            ReplicaState::Lost if replica.is_suspect() => step("suspect", None, suspicion(&replica.store)),
            ReplicaState::Lost => {
                step("copy", nightly, format!("its copy in {cloud} was lost and is made again"))
            }
            ReplicaState::Evicting => step("none", None, format!("its copy in {cloud} is being deleted")),
            ReplicaState::Present => eviction(context, policy, file, known.at_local),
        },
    }
}

/// What is known about a suspect copy, and how it is repaired.
fn suspicion(store: &str) -> String {
    format!(
        "its copy in {store} is suspect, because a reconcile found it missing or with a wrong size: no other copy is \
         deleted because of it. The next scrub or reconcile checks it again; to repair it, run `nightferry reconcile \
         --store {store} --apply`"
    )
}

/// The next step for a file that a rule keeps local: until it is too old for the rule, if that only covers new files.
fn stay(context: &Context, local: &str, file: &FileRow, rule: &RuleConfig) -> Result<NextStep> {
    let until = rule.newer_than.map(|age| file.uploaded_at + age);
    let at = match until {
        Some(until) => schedule::next_tick(&context.config.tiering, until.max(context.clock.now()))?,
        None => None,
    };
    let long = if at.is_some() { " until it is older" } else { "" };
    let because = format!("the rule \"{}\" keeps it in {local}{long}", rule.name);
    Ok(NextStep { action: if at.is_some() { "copy" } else { "none" }, at, because })
}

fn eviction(
    context: &Context,
    policy: &Policy<'_>,
    file: &FileRow,
    at_local: Option<&Replica>,
) -> Result<NextStep> {
    let step = |action, at, because: &str| Ok(NextStep { action, at, because: because.to_owned() });
    let Some(local) = at_local else {
        return step("none", None, "it has been synced and its local copy was evicted");
    };
    match local.state {
        ReplicaState::Present => {}
        ReplicaState::Queued => {
            return step(
                "copy",
                Some(local.not_before),
                "it has been synced, and a local copy was \
                requested",
            );
        }
        ReplicaState::Copying => return step("copying", None, "a worker is prefetching a local copy"),
        ReplicaState::Evicting => {
            return step("free", None, "it has been synced, and its local copy is being evicted");
        }
        // A copy that was verified here before is a repair; otherwise it is a prefetch.
        ReplicaState::Failed if local.verified_at.is_some() => {
            return step(
                "retry",
                None,
                "it has been synced; repairing its lost local copy failed permanently; fix the cause and \
                 run `nightferry sync retry`",
            );
        }
        ReplicaState::Failed => {
            return step("none", None, "it has been synced; prefetching a local copy failed permanently");
        }
        ReplicaState::Lost if local.is_suspect() => return step("suspect", None, &suspicion(&local.store)),
        ReplicaState::Lost => {
            return step(
                "copy",
                None,
                "it has been synced; its local copy was lost and will be repaired \
                soon",
            );
        }
    }
    let rule = local.free_rule.as_str();
    let after = policy.evictions().into_iter().find(|(name, _)| *name == rule).map(|(_, after)| after);
    match after {
        _ if file.pinned => {
            step("none", None, "it has been synced, and its local copy is kept because it is pinned")
        }
        None => step(
            "none",
            None,
            "it has been synced, and the rule of its local copy was removed: another one will be \
                determined soon",
        ),
        Some(FreeLocalAfter::Never) if rule == DEFAULT_RULE => {
            step("none", None, "it has been synced, and local copies are kept")
        }
        Some(FreeLocalAfter::Never) => {
            step("none", None, &format!("it has been synced, and the rule \"{rule}\" keeps its local copy"))
        }
        Some(FreeLocalAfter::After(after)) => {
            let at = local.spare_since.map(|at| at + super::evict::earliest(context, after));
            let by = if rule == DEFAULT_RULE { "policy".to_owned() } else { format!("rule \"{rule}\"") };
            step("free", at, &format!("it has been synced, and its local copy is evicted by the {by}"))
        }
    }
}
